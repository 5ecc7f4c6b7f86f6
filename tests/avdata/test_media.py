"""Opening and probing: what a file holds, and what is refused."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import pytest

from avdata.errors import AvdataError, ClipError, Reason
from avdata.media import ffmpeg_binary, probe
from tests.media_factory import click_track, make_video, noise_track


def reason_of(path: Path) -> Reason:
    with pytest.raises(ClipError) as caught:
        probe(path)
    return caught.value.reason


def test_probe_tells_what_was_encoded(tmp_path: Path) -> None:
    found = probe(
        make_video(
            tmp_path / "a.mp4",
            seconds=2,
            fps=24,
            width_px=318,
            height_px=182,
            sound=noise_track(2, 44100, channels=2),
            sound_rate_hz=44100,
        )
    )
    assert abs(found.duration_ms - 2000) <= 1
    assert (found.width_px, found.height_px, found.fps) == (318, 182, 24.0)
    assert (found.video_codec, found.audio_codec) == ("h264", "aac")
    assert (found.audio_rate_hz, found.audio_channels, found.rotation_deg) == (44100, 2, 0)


@pytest.mark.parametrize("turn_deg", [90, 180, 270])
def test_size_is_as_displayed(tmp_path: Path, turn_deg: int) -> None:
    found = probe(make_video(tmp_path / "r.mp4", seconds=0.4, rotation_deg=turn_deg))
    assert found.rotation_deg == turn_deg
    expected = (320, 180) if turn_deg == 180 else (180, 320)
    assert (found.width_px, found.height_px) == expected


def test_pixels_that_are_not_square_count_in_the_size(tmp_path: Path) -> None:
    found = probe(make_video(tmp_path / "p.mp4", seconds=0.4, pixel_aspect=Fraction(4, 3)))
    assert (found.width_px, found.height_px) == (427, 180)


def test_absent_streams_are_empty(tmp_path: Path) -> None:
    silent = probe(make_video(tmp_path / "v.mp4", seconds=0.4))
    assert (silent.audio_codec, silent.audio_rate_hz, silent.audio_channels) == ("", 0, 0)
    sound = click_track(1, 16000)
    blind = probe(make_video(tmp_path / "a.mp4", video_codec=None, sound=sound))
    assert (blind.video_codec, blind.width_px, blind.height_px, blind.fps) == ("", 0, 0, 0.0)
    assert (blind.audio_codec, blind.audio_rate_hz) == ("aac", 16000)


def test_a_file_that_does_not_state_its_duration_is_measured(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "live.webm", seconds=2, video_codec="libvpx-vp9", options={"live": "1"}
    )
    assert abs(probe(path).duration_ms - 2000) <= 1


def test_what_is_not_media(tmp_path: Path) -> None:
    for name, content, reason in [
        ("empty.mp4", b"", Reason.EMPTY),
        ("page.mp4", b"<!DOCTYPE html><html><body>Not found</body></html>", Reason.NOT_MEDIA),
        ("text.txt", b"hello\n" * 1000, Reason.NOT_MEDIA),
        ("zeros.mp4", bytes(100_000), Reason.NOT_MEDIA),
    ]:
        (tmp_path / name).write_bytes(content)
        assert reason_of(tmp_path / name) is reason, name


def test_a_file_without_its_end_is_corrupt(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", seconds=1).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert reason_of(tmp_path / "cut.mp4") is Reason.CORRUPT


def test_playlists_reach_neither_files_nor_the_network(tmp_path: Path) -> None:
    """Every format that names further files is refused before any of them is touched."""
    hits: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    secret = make_video(tmp_path / "secret.ts", seconds=1)
    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/x.ts"
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
    texts = {
        "local.m3u8": hls.format(secret),
        "local.mp4": hls.format(f"file://{secret}"),
        "remote.m3u8": hls.format(url),
        "list.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash.mpd": f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>',
    }
    try:
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
            assert reason_of(tmp_path / name) is Reason.NOT_MEDIA, name
    finally:
        server.shutdown()
        server.server_close()
    assert hits == []


@pytest.mark.parametrize("name", ["concat:x.mp4", "-i.mp4", "ünï cödé %05d.mp4", "subfile,,:a.mp4"])
def test_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "plain.mp4", seconds=0.4).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe(Path(name)).video_codec == "h264"


def test_ffmpeg_comes_from_path_or_else_from_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    try:
        for path, expected in [
            (str(tmp_path), str(program)),
            (str(tmp_path / "nothing"), imageio_ffmpeg.get_ffmpeg_exe()),
        ]:
            monkeypatch.setenv("PATH", path)
            ffmpeg_binary.cache_clear()
            assert ffmpeg_binary() == expected
        monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", _no_binary)
        ffmpeg_binary.cache_clear()
        with pytest.raises(AvdataError, match="apt install ffmpeg"):
            ffmpeg_binary()
    finally:
        ffmpeg_binary.cache_clear()


def _no_binary() -> str:
    raise RuntimeError("no binary in this wheel")


def test_importing_the_package_loads_no_decoder() -> None:
    code = "import sys, avdata.media, avdata.steps.trim; print({'av', 'decord'} & set(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert printed.stdout.strip() == "set()"


def test_real_files(shared_data: Path) -> None:
    edge = shared_data / "video/edge_cases"
    turned = probe(edge / "rotated_90.mov")
    assert (turned.width_px, turned.height_px, turned.rotation_deg) == (320, 568, 90)
    assert probe(edge / "no_audio_stream_tennis.mp4").audio_codec == ""
    for path in sorted((shared_data / "video/vggsound").glob("*.mp4")):
        found = probe(path)
        assert found.video_codec == "h264"
        assert 4000 <= found.duration_ms <= 12_000, path
