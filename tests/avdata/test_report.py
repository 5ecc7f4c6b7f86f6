"""The report of a made-up run: its numbers, its safety, its shape in a real browser."""

from __future__ import annotations

import base64
import dataclasses
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avdata import audio
from avdata.clip import Status
from avdata.errors import Reason, StoreError
from avdata.measures import class_names
from avdata.report import pictures, write_report
from avdata.report.advice import ADVICE
from avdata.report.tally import Tally, nice_edges
from avdata.report.training import stages_of, thin, trainings_of
from avdata.store import Store
from avdata.tables import to_arrow, write_clips
from tests.report_factory import LABELS, FakeRun, make_run, manifest, synthetic_media

VOID = {"meta", "img", "br", "input", "link", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced and gathers texts, links, ids and attributes."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.source = Path(path).read_text(encoding="utf-8")
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str, attribute: str) -> list[str]:
        return [v for t, a, v in self.attributes if (t, a) == (tag, attribute)]

    @property
    def ids(self) -> set[str]:
        return {v for t, a, v in self.attributes if t == "section" and a == "id"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("run"), manifest(14))


@pytest.fixture(scope="module")
def page(run: FakeRun) -> Page:
    return Page(write_report(str(run.root)))


def test_headline_counts_equal_the_table(run: FakeRun, page: Page) -> None:
    status = Counter(c.status for c in run.final)
    accepted = [c for c in run.final if c.status is Status.ACCEPTED]
    clips = len(run.final) - status[Status.EXPANDED]
    assert f"{len(accepted)} of {clips} clips accepted" in page.text
    assert (
        f"Accepted clips {len(accepted)} from {len({c.source_id for c in accepted})}" in page.text
    )
    assert f"Rejected {status[Status.REJECTED]} " in page.text
    assert f"Failed {status[Status.FAILED]} " in page.text
    seconds = round(sum(c.media.n_samples / 16000 for c in accepted if c.media))
    assert f"{seconds // 60} min {seconds % 60:02d} s of paired sight and sound" in page.text


def test_steps_add_up(run: FakeRun, page: Page) -> None:
    """14 rows, 1 bad; 3 not fetched; 1 damaged, 9 cut into 3 windows each; 2 too quiet."""
    assert "14 in − 1 failed = 13 go on" in page.text
    assert "13 in − 3 failed = 10 go on" in page.text
    assert "10 in + 27 cut − 9 replaced by their windows − 1 failed = 27 go on" in page.text
    assert "27 in = 27 go on" in page.text
    assert "27 in − 2 rejected = 25 accepted" in page.text
    assert "does not add up" not in page.text
    for reason in ("not_found 2", "timeout 1", "corrupt 1", "below_min 2", "bad_url 1"):
        assert reason in page.text


def test_labels_shards_and_provenance_are_counted(run: FakeRun, page: Page) -> None:
    judged = [c for c in run.final if c.status in (Status.ACCEPTED, Status.REJECTED)]
    for label, count in Counter(name for c in judged for name in c.labels).items():
        assert re.search(rf"{label} (kept: \d+ )?(rejected: \d+ )?{count}\b", page.text), label
    for name, split in run.summary["shards"]["splits"].items():
        row = f"{name} {split['clips']} {split['sources']} {split['shards']} "
        assert row in page.text
    assert "25 accepted = 25 packed" in page.text
    accepted = Counter(c.licence for c in run.final if c.status is Status.ACCEPTED)
    rows = Counter(c.licence for c in run.final if c.status is not Status.EXPANDED)
    for licence in accepted:
        assert f"hikes {licence} {rows[licence]} {accepted[licence]} Walker 0" in page.text


def test_every_failure_is_explained_with_examples(run: FakeRun, page: Page) -> None:
    assert set(ADVICE) == set(map(str, Reason))
    assert "2 not_found in fetch Nothing lies at this address (404)" in page.text
    assert "1 timeout in fetch may pass: --retry-failed" in page.text
    for clip in run.final:
        if clip.status is Status.FAILED:
            assert clip.key in page.text
            assert clip.detail in page.text


def test_reasons_name_the_rules_that_clips_broke(run: FakeRun, tmp_path: Path) -> None:
    still, sung = "select.reject.still_share", "select.reject.yamnet/Whimper (dog)"
    details = [f"{still}: 1 is rejected from 0.9 on", f"{sung}: 0.6 is rejected from 0.5 on"]
    clips = [
        clip.rejected("select", Reason.ABOVE_MAX, why)
        for clip, why in zip(run.final, [details[0], "; ".join(details)] * 3, strict=False)
    ]
    write_clips(tmp_path / "select.parquet", clips)
    page = Page(write_report(str(tmp_path)))
    assert f"6 above_max in select {still} 6 {sung} 3 A measure lies over" in page.text


def test_what_is_hardly_heard_is_not_called_heard(run: FakeRun, tmp_path: Path) -> None:
    accepted = [clip for clip in run.final if clip.status is Status.ACCEPTED]
    faint = [0.0] * len(accepted[0].class_scores)
    faint[74], faint[75] = 0.0999, 0.05  # Bark is 74 of YAMNet's classes
    clear = [0.0] * len(faint)
    clear[283], clear[74] = 0.1, 0.09  # Rain
    clips = [
        dataclasses.replace(clip, class_scores=tuple(np.float32(scores).tolist()))
        for clip, scores in zip(accepted, [faint, clear, clear], strict=False)
    ]
    write_clips(tmp_path / "select.parquet", clips)
    page = Page(write_report(str(tmp_path), gallery=0))
    assert "reach a mean score of 0.1; 1 classes in all, 1 clips without any." in page.text
    assert f"{class_names()[283]} kept: 2 2" in page.text
    assert class_names()[74] not in page.text


def test_gallery_shows_and_plays_real_media(run: FakeRun, page: Page) -> None:
    import base64

    players = page.of("audio", "src")
    by_sound = {}
    for clip in run.final:
        if clip.media and clip.status in (Status.ACCEPTED, Status.REJECTED):
            index = 3 * int(clip.attributes["row"]) + int(clip.attributes["window"])
            by_sound[synthetic_media(index)[0].tobytes()] = clip
    shown = []
    for player in players:
        kind, _, data = player.partition(";base64,")
        assert kind == "data:audio/flac"
        samples, rate_hz = audio.decode(base64.b64decode(data))
        assert rate_hz == 16000
        shown.append(by_sound[samples.tobytes()])
    assert len(shown) == len({c.key for c in shown}) == 24 + 2
    # balanced: no label is shown twice as often as another that has as many clips
    labels = Counter(c.labels[0] for c in shown if c.status is Status.ACCEPTED)
    assert set(labels) == set(LABELS)
    assert max(labels.values()) - min(labels.values()) <= 3
    marks = [s for s in page.of("i", "style") if s.startswith("left:")]
    for clip in shown:
        if clip.selection and clip.media:
            for pick in clip.selection.picks:
                assert f"left:{100 * clip.media.frames[pick].t_s / 3:.2f}%" in marks


def test_same_tables_give_the_same_page(run: FakeRun, tmp_path: Path) -> None:
    pages = []
    for name in ("one", "two"):
        shutil.copytree(run.root, tmp_path / name)
        pages.append(Path(write_report(str(tmp_path / name), gallery=3)).read_bytes())
    assert pages[0] == pages[1]


def test_page_is_self_contained(page: Page) -> None:
    for tag, name, value in page.attributes:
        if name in ("src", "srcset", "poster", "data", "action", "xlink:href"):
            assert value.startswith("data:"), (tag, name, value[:80])
        if name == "href":
            assert tag == "a"
            assert value.startswith(("#", "https://videos.example/")), value
    assert "@import" not in page.source
    assert not re.search(r"url\((?!data:)", page.source)
    assert len(page.source) < 15_000_000


def test_players_are_cut_to_the_budget(run: FakeRun, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    small = Page(write_report(str(tmp_path / "run"), gallery=6, budget_bytes=900_000))
    assert len(small.source) < 900_000 + 150_000
    assert "The player has the first" in small.text
    assert len(small.of("audio", "src")) == 8


def test_chapters_of_stages_are_added(run: FakeRun, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    chapter = tmp_path / "run/stages/evaluate/section.html"
    chapter.parent.mkdir(parents=True)
    chapter.write_text("<h2>Scores &lt;1&gt;</h2><p>R@1 <b>0.5</b></p>", encoding="utf-8")
    page = Page(write_report(str(tmp_path / "run"), gallery=0))
    assert "Scores <1> R@1 0.5" in page.text
    assert "#evaluate" in page.of("a", "href")

    chapter.write_text("<p>no title</p>", encoding="utf-8")
    with pytest.raises(StoreError, match=r"section\.html must begin with <h2>"):
        write_report(str(tmp_path / "run"), gallery=0)


def test_losses_of_trainings_are_drawn(run: FakeRun, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    stages = tmp_path / "run/stages"
    (stages / "train_a/samples").mkdir(parents=True)
    for step in (100, 200):
        Image.new("RGB", (2, 2), (step, 0, 0)).save(stages / f"train_a/samples/step-{step:08d}.png")
    lines = [{"step": n, "loss": 5.0 - n / 100, "lr": 0.1} for n in range(100, 401, 100)]
    lines[-1]["val_loss"] = 2.5
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 500, "lo'  # being written
    (stages / "train_a/metrics.jsonl").write_text(text, encoding="utf-8")
    (stages / "train_b").mkdir()
    (stages / "train_b/metrics.jsonl").write_text("", encoding="utf-8")  # has not begun

    store = Store(str(tmp_path / "run"))
    assert stages_of(store, ["train_b", "elsewhere"]) == ["train_b", "train_a"]
    (training,) = trainings_of(store, stages_of(store, []))
    assert (training.name, training.steps) == ("train_a", 400)
    loss, val = training.curves
    assert (loss.name, loss.last, val.name, val.last) == ("loss", "1", "val_loss", "2.5")
    # From 4 at step 100, the top, to 1 at step 400, the bottom.
    assert loss.path == "M0.2500 0.0000L0.5000 0.3333L0.7500 0.6667L1.0000 1.0000"
    assert val.path == "M1.0000 0.5000L1.0000 0.5000"
    page = Page(write_report(str(tmp_path / "run"), gallery=0))
    assert "train_a 400 steps" in page.text
    last_sheet = base64.b64encode((stages / "train_a/samples/step-00000200.png").read_bytes())
    assert any(src.endswith(last_sheet.decode()) for src in page.of("img", "src"))


def test_long_trainings_are_thinned() -> None:
    points = [(float(n), float(n % 2)) for n in range(1000)]
    thinned = thin(points, 100)
    assert len(thinned) == 100
    assert thinned[0] == (4.5, 0.5)
    assert thin(points[:7], 100) == points[:7]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    rows = [
        dataclasses.replace(
            row,
            url=url,
            labels=(hostile,),
            licence=hostile,
            attribution=hostile,
            dataset=hostile,
            detail=hostile,
        )
        for row, url in zip(
            manifest(6),
            ("javascript:alert(3)", "data:text/html,x", hostile, " JaVaScRiPt:alert(4)", "x", "y"),
            strict=True,
        )
    ]
    run = make_run(tmp_path, rows, fetch_fails=[(1, Reason.BAD_URL), (2, Reason.NOT_FOUND)])
    crashed = {"rows": 1, "sources": 1, "examples": [hostile]}
    (tmp_path / "summary.json").write_text(
        json.dumps({**run.summary, "name": hostile, "crashed": crashed})
    )
    page = Page(write_report(str(tmp_path)))
    assert page.source.count("<script") == 1
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert all(v.startswith("#") for v in page.of("a", "href"))
    assert all(v.startswith("data:image/") for v in page.of("img", "src"))
    assert page.text.count("<script>alert(1)</script>") > 5


def test_a_folder_without_a_run_gets_no_report(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is no run folder: it has none of summary\.json"):
        write_report(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_damaged_summary_is_named(run: FakeRun, tmp_path: Path) -> None:
    shutil.copy(run.root / "fetch.parquet", tmp_path)
    (tmp_path / "summary.json").write_text('{"name": "cut o')
    with pytest.raises(StoreError, match=r"summary\.json is damaged .*; remove it"):
        write_report(str(tmp_path))


def test_empty_tables(tmp_path: Path) -> None:
    write_clips(tmp_path / "fetch.parquet", [])
    page = Page(write_report(str(tmp_path)))
    assert "This run has no clips yet" in page.text
    assert "0 in = 0 go on" in page.text


def test_run_in_which_everything_failed(tmp_path: Path) -> None:
    every = [(n, Reason.REMOVED) for n in range(4)]
    make_run(tmp_path, manifest(5), fetch_fails=every)
    page = Page(write_report(str(tmp_path)))
    assert "0 of 5 clips accepted" in page.text
    assert "4 removed in fetch" in page.text
    assert page.ids == {"steps", "measured", "reasons", "provenance", "settings"}


def test_run_that_only_fetched(run: FakeRun, tmp_path: Path) -> None:
    shutil.copy(run.root / "fetch.parquet", tmp_path)
    page = Page(write_report(str(tmp_path)))
    assert "10 of 14 clips ready so far" in page.text
    assert "gallery" not in page.ids


def test_clips_without_frames_and_silent_ones(tmp_path: Path) -> None:
    silence = np.zeros(48_000, np.int16)
    make_run(tmp_path, manifest(3), make_media=lambda _: (silence, ()), fetch_fails=())
    page = Page(write_report(str(tmp_path)))
    assert len(page.of("audio", "src")) == 6
    assert "picked at" not in page.text


def test_media_that_cannot_be_read_are_named(run: FakeRun, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    (tmp_path / "run/work/trim/part.tar").write_bytes(b"")
    page = Page(write_report(str(tmp_path / "run")))
    assert page.text.count("not shown its media cannot be read") == 26


def test_tables_of_another_run_are_noticed(run: FakeRun, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    write_clips(tmp_path / "run/tag.parquet", run.tables["tag"][:-2])
    assert "does not add up" in Page(write_report(str(tmp_path / "run"), gallery=2)).text
    fetched = {**run.summary, "steps": run.summary["steps"][:1]}
    del fetched["shards"]
    (tmp_path / "run/summary.json").write_text(json.dumps(fetched))
    page = Page(write_report(str(tmp_path / "run"), gallery=2))
    assert "10 of 14 clips ready so far" in page.text
    assert "shards" not in page.ids


def test_spectrogram_shows_a_tone_at_its_frequency_and_silence_dark() -> None:
    t = np.arange(32_000) / 16_000
    tone = (8000 * np.sin(2 * np.pi * 2000 * t)).astype(np.int16)
    decibel = pictures.mel_spectrogram_db(tone, 16_000, 50)
    # 2000 Hz is 1521 mel, half the rate is 2840 mel (O'Shaughnessy), over 128 bands
    assert abs(int(decibel[:, 25].argmax()) - 1521 / 2840 * 128) <= 1.5
    noise = np.random.default_rng(0).standard_normal(32_000)
    loud = pictures.mel_spectrogram_db((3000 * noise).astype(np.int16), 16_000, 50)
    faint = pictures.mel_spectrogram_db((12 * noise).astype(np.int16), 16_000, 50)
    assert faint.mean() < loud.mean() - 20
    assert np.abs(pictures.envelope((3000 * noise).astype(np.int16), 40)).max() == 1.0
    assert np.abs(pictures.envelope((12 * noise).astype(np.int16), 40)).max() < 0.05
    lightness = pictures.colormap().astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) >= -0.5).all()
    assert lightness[-1] - lightness[0] > 200


def test_tally_gives_exact_counts_and_close_quantiles() -> None:
    values = np.random.default_rng(1).normal(-25, 6, 20_000)
    tally = Tally()
    for part in np.split(values, 10):
        tally.add(part)
    tally.add([np.nan, np.inf])
    assert tally.count == 20_000
    assert tally.mean == pytest.approx(values.mean())
    for share in (0.05, 0.5, 0.95):
        assert tally.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.01)
    edges = nice_edges(-60, 0)
    assert sum(tally.histogram(edges)) == int(((values > -60) & (values < 0)).sum())
    assert len(tally.counts) < 2000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))
    ) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


PROBE = """<!doctype html><title>probe</title>
<iframe src="report.html" style="width:WIDTHpx;height:800px;border:0"></iframe><pre></pre>
<script>
document.querySelector("iframe").onload = async (event) => {
  const page = event.target.contentDocument;
  const audio = page.querySelector("audio");
  const seconds = await new Promise((done) => {
    audio.onloadedmetadata = () => done(audio.duration);
    audio.onerror = () => done("error");
    audio.preload = "metadata";
    audio.load();
  });
  document.querySelector("pre").textContent = "RESULT" + JSON.stringify({
    seconds,
    width: page.documentElement.clientWidth,
    content: page.documentElement.scrollWidth,
    buttons: page.querySelectorAll("button.play").length,
    broken: [...page.images].filter((i) => i.complete && !i.naturalWidth).length,
    cards: page.querySelectorAll(".card").length,
    outside: page.defaultView.performance.getEntriesByType("resource")
      .map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
  }) + "END";
};
</script>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium on PATH")
@pytest.mark.parametrize("width_px", [390, 1280])
def test_in_a_browser(page: Page, tmp_path: Path, server: str, width_px: int) -> None:
    (tmp_path / "report.html").write_text(page.source, encoding="utf-8")
    (tmp_path / "probe.html").write_text(PROBE.replace("WIDTH", str(width_px)))
    (tmp_path / "throws.html").write_text("<script>missing()</script>")
    found, log = browse(f"{server}/probe.html", tmp_path / "profile")
    result = json.loads(re.findall(r"RESULT(.*?)END</pre>", found, re.S)[0].replace("&amp;", "&"))
    assert result["width"] == width_px
    assert result["content"] == width_px, "the page is wider than the screen"
    assert result["seconds"] == pytest.approx(3.0, abs=0.01)
    assert result["cards"] == result["buttons"] == 26
    assert result["broken"] == 0
    assert result["outside"] == []
    assert "CONSOLE" not in log
    assert "CONSOLE" in browse(f"{server}/throws.html", tmp_path / "profile")[1]


def browse(url: str, profile: Path) -> tuple[str, str]:
    """Return the page's DOM after its scripts ran, and the browser's log."""
    flags = """
        --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
        --disable-background-networking --disable-component-update --enable-logging=stderr
        --virtual-time-budget=8000 --window-size=1400,900 --hide-scrollbars --dump-dom
    """
    done = subprocess.run(
        ["chromium", *flags.split(), f"--user-data-dir={profile}", url],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(run: FakeRun, tmp_path: Path) -> None:
    few = peak_mb(many_rows(run, tmp_path / "few", 10_000))
    many = peak_mb(many_rows(run, tmp_path / "many", 100_000))
    assert many < 600
    assert many < few + 80, f"{few:.0f} MB at 10 000 rows, {many:.0f} MB at 100 000"


def many_rows(run: FakeRun, root: Path, rows: int) -> Path:
    """Repeat the run's last table under new keys, in row groups as the parts leave them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    (root / "work").symlink_to(run.root / "work")
    part = pa.concat_tables([to_arrow(run.final)] * 10)
    with pq.ParquetWriter(root / "select.parquet", part.schema, compression="zstd") as writer:
        for first in range(0, rows, len(part)):
            keys = [f"clip{n}" for n in range(first, first + len(part))]
            for name in ("key", "source_id", "url"):
                place = part.schema.get_field_index(name)
                part = part.set_column(place, part.schema.field(name), pa.array(keys))
            writer.write_table(part)
    return root


def peak_mb(root: Path) -> float:
    """Return the peak memory of a process that writes the report.

    From /proc, which starts anew with the program; getrusage also counts the parent before it.
    """
    program = (
        "import re, sys\n"
        "from avdata.report import write_report\n"
        "write_report(sys.argv[1])\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


def test_report_goes_to_a_remote_folder(run: FakeRun) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(run.root), "/report-run", recursive=True)
    assert write_report("memory://report-run") == "memory://report-run/report.html"
    assert Store("memory://report-run").exists("report.html")
