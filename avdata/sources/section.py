"""A section of a video on the timeline of the whole."""

from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from avdata.errors import ClipError, Reason
from avdata.media.container import audio_stream, open_media, video_stream
from avdata.media.strange import STRANGE


def on_whole_timeline(section: Path, start_s: Fraction) -> Path:
    """Rewrite a section, cut at `start_s`, so that its times are those of the whole video.

    The streams are copied with their times moved by `start_s`, into Matroska, which allows gaps.
    Players count from the first packet on, so the first picture is also put at time 0, where it
    stands until the section begins; nothing but the section is ever asked for. Raises ClipError
    (empty, corrupt).
    """
    target = section.with_name(f"{section.stem}.whole.mkv")
    try:
        _copy_moved(section, target, start_s)
    except STRANGE as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ClipError(Reason.CORRUPT, f"the section cannot be copied: {error}") from None
    return target


def _copy_moved(section: Path, target: Path, start_s: Fraction) -> None:
    with open_media(section) as source, av.open(str(target), "w") as out:
        streams = [s for s in (video_stream(source), audio_stream(source)) if s is not None]
        copies = {s.index: out.add_stream_from_template(s) for s in streams}
        anchored: set[int] = set()
        for packet in source.demux(streams):
            if packet.dts is None or packet.pts is None:
                continue  # the empty packet at the end of a stream
            index = packet.stream.index
            packet.stream = copies[index]
            if not anchored:
                anchored.add(index)
                out.mux(_copy_at_zero(packet))
            shift = round(start_s / packet.time_base)
            packet.pts += shift
            packet.dts += shift
            out.mux(packet)
    if not anchored:
        raise ClipError(Reason.EMPTY, "the section holds neither pictures nor sound")


def _copy_at_zero(packet: av.Packet[Any]) -> av.Packet[Any]:
    copy: av.Packet[Any] = av.Packet(bytes(packet))
    copy.stream, copy.time_base = packet.stream, packet.time_base
    copy.is_keyframe = packet.is_keyframe
    copy.pts = copy.dts = 0
    return copy
