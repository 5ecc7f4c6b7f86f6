"""Official lists become manifests: by small files of each form, and by the real lists."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from avdata.cli.manifest import app
from avdata.clip import Clip, Status
from avdata.errors import ManifestError, Reason, SettingsError
from avdata.manifest import iter_manifest
from avdata.manifest.datasets import (
    Dataset,
    ListFile,
    download,
    import_dataset,
    load_dataset,
)
from avdata.manifest.importers import IMPORTERS, import_clips
from avdata.shipped import shipped_names
from avdata.strict import build

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
ID = "---g-f_I2yQ"


def imported(importer: str, *files: Path, **options: Any) -> list[Clip]:
    return list(import_clips(importer, files, options, {"dataset": "d"}, "/base"))


def wrote(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


# --- VGGSound ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("vggsound.csv", f'{ID},1,"a, b",train', (1000, 11000, ("a, b",), "train")),
        ("test.csv", f"{ID}_000030.mp4,rain", (30000, 40000, ("rain",), "test")),
        ("x_train.txt", f"{ID}_1000_9500", (1000, 9500, (), "train")),
        ("x_valid.txt", f"{ID}_1000_11000.mp4,rain", (1000, 11000, ("rain",), "val")),
        ("vgg-val.tsv", f"id\tlabel\n{ID}_000221\ta, b", (221000, 231000, ("a, b",), "val")),
        ("x.txt", f"{ID}_000030_000040", (30000, 40000, (), "")),
        ("x.txt", f"{ID}_450000_460000", (450000, 460000, (), "")),
    ],
)
def test_vggsound_forms(tmp_path: Path, name: str, line: str, expected: tuple[Any, ...]) -> None:
    (clip,) = imported("vggsound", wrote(tmp_path / name, line + "\n"))
    assert (clip.start_ms, clip.end_ms, clip.labels, clip.split) == expected
    assert clip.url == f"https://www.youtube.com/watch?v={ID}"
    assert clip.source_id == ID
    assert clip.key == f"d-{ID}-{expected[0]:08d}"


def test_vggsound_subset_and_known_bad(tmp_path: Path) -> None:
    ids = [f"{letter * 11}" for letter in "abcdef"]
    path = wrote(
        tmp_path / "vggsound.csv",
        "".join(f"{i},{n},{'rain' if n < 4 else 'dog'},train\n" for n, i in enumerate(ids)),
    )
    wanted = str(wrote(tmp_path / "categories.txt", "rain\n\nhail\n"))
    bad_clip = str(wrote(tmp_path / "bad.txt", f"{ids[0]}_0_10000.mp4\n{ids[1]}_9000_19000\n\n"))
    bad_video = str(wrote(tmp_path / "videos.txt", f"{ids[2]}\n"))
    clips = imported("vggsound", path, categories=wanted, exclude=[bad_clip, bad_video])
    assert [clip.source_id for clip in clips] == [ids[1], ids[3]]


def test_vggsound_labels_from_another_list(tmp_path: Path) -> None:
    labelled = str(wrote(tmp_path / "all.csv", f"{ID},30,rain,test\n"))
    plain = wrote(tmp_path / "test.txt", f"{ID}_30000_40000\n{ID}_50000_60000\n")
    assert [c.labels for c in imported("vggsound", plain, labels_from=labelled)] == [("rain",), ()]
    categories = str(wrote(tmp_path / "categories.txt", "rain\n"))
    with pytest.raises(ManifestError, match=rf"test\.txt has no label for {ID}"):
        imported("vggsound", plain, categories=categories)


def test_vggsound_bad_lines_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "vggsound.csv"
    path.write_bytes(
        f"# YouTube ID, start\n{ID},x,rain,train\nshort,1,rain,train\n{ID},1,caf".encode()
        + f"\xe9,train\n../../{ID}_000001.mp4,rain\n1,2,3\n{ID},2,rain,train\n".encode("latin-1")
    )
    clips = imported("vggsound", path)
    assert [clip.status for clip in clips] == [*[Status.FAILED] * 5, Status.ACTIVE]
    assert [clip.detail.split(" ")[0] for clip in clips[:5]] == [
        f"vggsound.csv:{n}:" for n in range(2, 7)
    ]
    assert len({clip.key for clip in clips}) == 6


def test_vggsound_real_lists(shared_data: Path) -> None:
    lists = shared_data / "lists"
    test = imported("vggsound", lists / "vggsound/hche11_test.csv")
    assert len(test) == 15446
    assert len({clip.labels for clip in test}) == 309
    assert {clip.split for clip in test} == {"test"}
    subset = imported(
        "vggsound",
        lists / "vggsound/hche11_test.csv",
        categories=str(lists / "sound2scene/categories.txt"),
    )
    assert len({clip.labels for clip in subset}) == 50
    valid = lists / "vggsound/specvqgan_vggsound_valid.txt"
    every = imported("vggsound", valid)
    bad = sorted(str(path) for path in (lists / "vggsound_bad_clips").glob("*.txt"))
    names = {line.removesuffix(".mp4") for path in bad for line in Path(path).read_text().split()}
    left = [line for line in valid.read_text().split() if line not in names]
    assert len(every) == 19056
    assert len(imported("vggsound", valid, exclude=bad)) == len(left) < 19056
    assert not [clip for clip in (*test, *every) if clip.status is not Status.ACTIVE]


def test_vggss(tmp_path: Path, shared_data: Path) -> None:
    clips = imported("vggss", shared_data / "lists/vggss/vggss.json")
    assert len(clips) == 5158
    assert clips[0].labels == ("elk bugling",)
    assert (clips[0].source_id, clips[0].start_ms, clips[0].end_ms) == ("zpWuikVorYg", 32000, 42000)
    assert json.loads(clips[0].attributes["bbox"]) == [[0.403125, 0.253125, 0.6, 0.75]]
    bad = imported("vggss", wrote(tmp_path / "bad.json", '[{"file": "x"}, 3]'))
    assert [clip.reason for clip in bad] == [Reason.BAD_ROW] * 2


# --- AudioSet ----------------------------------------------------------------------------------


def test_audioset(tmp_path: Path) -> None:
    path = wrote(
        tmp_path / "eval_segments.csv",
        "# Segments csv created\n# YTID, start_seconds, end_seconds, positive_labels\n"
        f'{ID}, 30.000, 40.500, "/m/1,/m/2"\n{ID}, 0.000, 10.000, "/m/2"\n{ID}, 1, 2\n',
    )
    names = wrote(tmp_path / "class_labels_indices.csv", 'index,mid,display_name\n0,/m/1,"A, b"\n')
    plain = imported("audioset", path)
    assert [clip.labels for clip in plain] == [("/m/1", "/m/2"), ("/m/2",), ()]
    assert (plain[0].start_ms, plain[0].end_ms, plain[0].split) == (30000, 40500, "test")
    assert plain[2].detail.startswith("eval_segments.csv:5: ")
    named = imported("audioset", path, labels=str(names))
    assert named[0].labels == ("A, b", "/m/2")
    assert named[0].attributes == {"audioset_ids": "/m/1,/m/2"}
    assert [clip.labels for clip in imported("audioset", path, names)] == [
        clip.labels for clip in named
    ]
    wanted = str(wrote(tmp_path / "categories.txt", "A, b\n"))
    wanted_clips = imported("audioset", path, names, categories=wanted)
    assert [clip.reason or clip.start_ms for clip in wanted_clips] == [30000, "bad_row"]


def test_audioset_real_lists(shared_data: Path) -> None:
    folder = shared_data / "lists/audioset"
    for labels in ("class_labels_indices.csv", "ontology.json"):
        clips = imported(
            "audioset", folder / "balanced_train_segments.csv", labels=str(folder / labels)
        )
        assert len(clips) == 22160
        assert {clip.split for clip in clips} == {"train"}
        assert not [clip for clip in clips if clip.status is not Status.ACTIVE]
        counts = Counter(label for clip in clips for label in clip.labels)
        assert len(counts) == 527
        assert counts.total() == 52882  # as the file's own header says
        assert not [label for label in counts if label.startswith("/")]


# --- lists whose videos lie in a folder --------------------------------------------------------


def test_vas(tmp_path: Path) -> None:
    path = wrote(tmp_path / "vas_valid.txt", "dog/video_00001\n../x\na/../../b\nbaby/..\n")
    clips = imported("vas", path)
    assert clips[0].url == "/base/videos/dog/video_00001.mp4"
    assert (clips[0].labels, clips[0].split) == (("dog",), "val")
    assert clips[0].key == "d-dog-video_00001"
    assert [clip.reason for clip in clips[1:]] == [Reason.BAD_ROW] * 3
    plain = wrote(tmp_path / "dog_train.txt", "video_00002.mp4\n")
    (clip,) = imported("vas", plain, media="/data/{label}/{name}.mp4")
    assert (clip.url, clip.split) == ("/data/dog/video_00002.mp4", "train")


def test_vas_real_lists(shared_data: Path) -> None:
    folder = shared_data / "lists/vggsound"
    clips = imported("vas", folder / "specvqgan_vas_train.txt", folder / "specvqgan_vas_valid.txt")
    assert Counter(clip.split for clip in clips) == {"train": 11773, "val": 768}
    assert len({clip.labels for clip in clips}) == 8
    assert len({clip.key for clip in clips}) == 12541


def test_into_the_wild_tolerates_stray_tabs(tmp_path: Path) -> None:
    rows = [
        ["ID", "Snow", "Forest", "Rain", "Duration"],
        ["XHUic6aEWlQ", None, 1, None, 20],
        ["VWny8Gf3BwQ\t\t\t1\t51.5", None, None, 1, 51.5],
        ["Rm9GMZBiX_M\t", 1, 1, None, 31],
        ["not an id", 1, None, None, 3],
    ]
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "metadata.xlsx")
    text = "\r\n".join(",".join("" if c is None else str(c) for c in row) for row in rows)
    for path in (tmp_path / "metadata.xlsx", wrote(tmp_path / "metadata.csv", text)):
        clips = imported("into_the_wild", path)
        assert [clip.source_id for clip in clips[:3]] == [
            "XHUic6aEWlQ",
            "VWny8Gf3BwQ",
            "Rm9GMZBiX_M",
        ]
        assert [clip.labels for clip in clips[:3]] == [("forest",), ("rain",), ("snow", "forest")]
        assert clips[1].attributes == {"duration_min": "51.5"}
        assert (clips[0].start_ms, clips[0].end_ms) == (None, None)
        assert (clips[3].reason, clips[3].detail[: len(path.name) + 2]) == (
            Reason.BAD_URL,
            f"{path.name}:5",
        )
    with pytest.raises(ManifestError, match="Rain"):
        imported("into_the_wild", wrote(tmp_path / "bad.csv", "ID,Snow,Forest\nx,,\n"))
    with pytest.raises(ManifestError, match="not an Excel workbook"):
        imported("into_the_wild", wrote(tmp_path / "bad.xlsx", "ID,Snow,Forest\nx,,\n"))


def test_into_the_wild_real_lists(shared_data: Path) -> None:
    folder = shared_data / "lists/into_the_wild"
    from_xlsx = imported("into_the_wild", folder / "metadata.xlsx")
    assert from_xlsx == imported("into_the_wild", folder / "metadata.csv")
    assert len(from_xlsx) == 94
    assert not [clip for clip in from_xlsx if clip.status is not Status.ACTIVE]
    table = (folder / "metadata.csv").read_text().splitlines()[1:]
    flags = [line.split("\t")[0].split(",")[1:4] for line in table if "\t" not in line]
    plain = [clip for clip, line in zip(from_xlsx, table, strict=True) if "\t" not in line]
    assert [len(clip.labels) for clip in plain] == [row.count("1") for row in flags]


HIT_RECORD = [[2.6667, "ceramic hit"], [3.6667, "None None"], [4.7333, "wood None"]]


def hit_archive(path: Path, names: list[str]) -> Path:
    content = json.dumps(HIT_RECORD).encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(f"vis-data/{name}_times.txt", "2.6667 ceramic hit static\n")
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(f"data/{name}/hit_record.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_greatest_hits(tmp_path: Path) -> None:
    names = ["2015-02-16-16-49-06", "2015-10-06-20-27-19-220", "2015-03-30-01-32-13"]
    archive = hit_archive(tmp_path / "records.tar.gz", names)
    train = wrote(tmp_path / "video_train.json", json.dumps(names[:2]))
    valid = wrote(tmp_path / "video_valid.txt", f"{names[2]}\n2015-01-01-01-01-01\n../etc/passwd\n")
    clips = {clip.source_id: clip for clip in imported("greatest_hits", archive, train, valid)}
    first = clips[names[0]]
    assert first.url == f"/base/{names[0]}_denoised.mp4"
    assert first.events_ms == (2667, 3667, 4733)
    assert first.labels == ("ceramic hit", "wood")
    assert first.attributes == {"event_labels": "ceramic hit||wood"}
    assert [clips[name].split for name in names] == ["train", "train", "val"]
    bad = [clip for clip in clips.values() if clip.status is Status.FAILED]
    assert sorted(clip.detail.split(":")[0] for clip in bad) == [
        "2015-01-01-01-01-01",
        "video_valid.txt",
    ]
    labelled = imported("greatest_hits", archive, events="labelled", media="/v/{name}.mp4")
    assert labelled[0].events_ms == (2667, 4733)
    assert labelled[0].url == f"/v/{names[0]}.mp4"
    (zipped,) = imported("greatest_hits", hit_archive(tmp_path / "vis.zip", names[:1]))
    assert (zipped.events_ms, zipped.labels) == ((2667,), ("ceramic hit",))
    assert not list(tmp_path.rglob("hit_record.json"))


def test_greatest_hits_of_some_materials(tmp_path: Path) -> None:
    day = "2015-02-16-16-49-0"
    leaf = [[1.0, "leaf hit"], [2.0, "dirt scratch"], [3.0, "wood hit"], [4.0, "leaf None"]]
    wrote(tmp_path / "all" / f"{day}1" / "hit_record.json", json.dumps(leaf))
    wrote(tmp_path / "all" / f"{day}2_times.txt", "1.5 wood hit static\n2.5 None None\n")
    wrote(tmp_path / "all" / f"{day}3_times.txt", "1.5 dirt hit\n1.5 dirt hit\n2.5 None hit\n")
    (first, third) = imported("greatest_hits", tmp_path / "all", materials=["leaf", "dirt"])
    assert (first.source_id, first.events_ms) == (f"{day}1", (1000, 2000, 4000))
    assert first.labels == ("dirt scratch", "leaf", "leaf hit")
    assert third.events_ms == (1500, 1500)  # a row tells what its record does
    hits = imported("greatest_hits", tmp_path / "all", materials=["leaf", "dirt"], per="hit")
    assert [(hit.source_id[-1], hit.events_ms, hit.labels) for hit in hits] == [
        ("1", (1000,), ("leaf",)),
        ("1", (2000,), ("dirt",)),
        ("1", (4000,), ("leaf",)),
        ("3", (1500,), ("dirt",)),  # one of two at the same time
    ]
    assert [hit.attributes["event_labels"] for hit in hits][:2] == ["leaf hit", "dirt scratch"]
    every = imported("greatest_hits", tmp_path / "all", per="hit")
    assert len(every) == 8
    assert len({hit.key for hit in every}) == 8
    assert sum(not hit.labels for hit in every) == 2


def test_greatest_hits_broken_records(tmp_path: Path) -> None:
    name = "2015-02-16-16-49-06"
    wrote(tmp_path / "all" / name / "hit_record.json", '[[1.0, "a"], ["x"]]')
    wrote(tmp_path / "all" / f"{name}-1_times.txt", "1.5 wood hit static\n\n2.5 None None\n")
    bad, good = imported("greatest_hits", tmp_path / "all")
    assert bad.reason == Reason.BAD_ROW
    assert good.events_ms == (1500, 2500)
    archive = hit_archive(tmp_path / "records.tar.gz", [f"{name}-{n}" for n in range(200)])
    archive.write_bytes(archive.read_bytes()[:-400])
    with pytest.raises(ManifestError, match=r"records\.tar\.gz is not whole"):
        imported("greatest_hits", archive)


def test_greatest_hits_real_lists(shared_data: Path) -> None:
    folder = shared_data / "lists/greatest_hits"
    splits = [folder / f"greatesthit_video_{split}.json" for split in ("train", "valid", "test")]
    clips = imported("greatest_hits", folder / "greatest_hit_meta_info.tar.gz", *splits)
    assert Counter(clip.split for clip in clips) == {"train": 830, "val": 50, "test": 97}
    assert not [clip for clip in clips if clip.status is not Status.ACTIVE or not clip.events_ms]


def test_greatest_hits_outdoor_real_records(shared_data: Path) -> None:
    """Counted in the published records: the same hits, by the first word of each."""
    dataset = load_dataset("greatest_hits_outdoor")
    archive = shared_data / "lists/greatest_hits/greatest_hit_meta_info.tar.gz"
    clips = list(import_dataset(dataset, [archive], {"media": "{name}.mp4"}, "/base"))
    assert len(clips) == dataset.rows
    assert Counter(label for clip in clips for label in clip.labels) == {
        "dirt": 2994,
        "leaf": 2309,
        "grass": 921,
        "water": 677,
        "gravel": 433,
    }
    assert len({clip.source_id for clip in clips}) == 338
    assert {clip.split for clip in clips} == {""}


def test_celebv_hq(tmp_path: Path) -> None:
    clip = {
        "ytb_id": "M2Ohb0FAaJU",
        "duration": {"start_sec": 81.62, "end_sec": 86.17},
        "bbox": {"top": 0.0, "bottom": 0.88, "left": 0.19, "right": 0.69},
        "attributes": {
            "appearance": [0, 1],
            "action": [1],
            "emotion": {"sep_flag": False, "labels": "neutral"},
        },
        "version": "v0.1",
    }
    two = json.loads(json.dumps(clip))
    two["attributes"]["emotion"] = {
        "sep_flag": True,
        "labels": [{"emotion": "happy", "start_sec": 0, "end_sec": 1}, {"emotion": "angry"}],
    }
    content = {
        "meta_info": {"appearance_mapping": ["blurry", "male"], "action_mapping": ["blow"]},
        "clips": {"M2Ohb0FAaJU_1": clip, "M2Ohb0FAaJU_2": two, "bad": {}, "evil/../x": clip},
    }
    path = wrote(tmp_path / "celebvhq_info.json", json.dumps(content))
    first, second, bad, evil = imported("celebv_hq", path)
    assert (first.start_ms, first.end_ms) == (81620, 86170)
    assert first.labels == ("male", "blow", "neutral")
    assert first.key == "celebv_hq-M2Ohb0FAaJU_1"
    assert json.loads(first.attributes["bbox"]) == clip["bbox"]
    assert second.labels == ("male", "blow", "angry", "happy")
    assert (bad.reason, bad.detail.split(":")[1]) == (Reason.BAD_ROW, "bad")
    assert "/" not in evil.key
    with pytest.raises(ManifestError, match="not valid JSON"):
        imported("celebv_hq", wrote(path, '{"clips": '))
    with pytest.raises(ManifestError, match="meta_info"):
        imported("celebv_hq", wrote(path, '{"clips": {}}'))


def test_folder(tmp_path: Path) -> None:
    for name in ("train/rain/-a b.mp4", "train/rain/é.MOV", "valid/x.webm", "c:d.mkv"):
        wrote(tmp_path / name, "x")
    for name in ("train/notes.txt", ".hidden/a.mp4", "train/.a.mp4"):
        wrote(tmp_path / name, "x")
    clips = imported("folder", tmp_path, labels="folder", splits="folder")
    assert [Path(clip.url).relative_to(tmp_path).as_posix() for clip in clips] == [
        "c:d.mkv",
        "train/rain/-a b.mp4",
        "train/rain/é.MOV",
        "valid/x.webm",
    ]
    assert [clip.labels for clip in clips] == [(), ("rain",), ("rain",), ("valid",)]
    assert [clip.split for clip in clips] == ["", "train", "train", "val"]
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    again = imported("folder", moved, labels="folder", splits="folder")
    assert [clip.key for clip in again] == [clip.key for clip in clips]
    with pytest.raises(ManifestError, match="no file named"):
        imported("folder", moved, extensions=["flac"])


def test_unknown_options_importers_and_files(tmp_path: Path) -> None:
    path = wrote(tmp_path / "x.csv", "")
    with pytest.raises(SettingsError, match="did you mean split"):
        imported("vggsound", path, splt="train")
    with pytest.raises(ManifestError, match="no importer 'vgsound'"):
        imported("vgsound", path)
    with pytest.raises(ManifestError, match=r"absent\.csv"):
        imported("vggsound", tmp_path / "absent.csv")


# --- descriptions and downloads ----------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_description_is_complete(path: Path) -> None:
    dataset = load_dataset(str(path))
    for name in ("title", "homepage", "citation", "licence", "attribution"):
        assert getattr(dataset, name), name
    assert dataset.files or dataset.note
    import importlib

    module = importlib.import_module(f"avdata.manifest.importers.{dataset.importer}")
    build(module.Options, {**dataset.options, **dataset.option_files}, str(path))


def test_the_datasets_of_the_papers_are_described() -> None:
    wanted = {"vggsound", "vggsound_sound2scene50", "vegas", "vas", "into_the_wild", "vggss"}
    wanted |= {"greatest_hits", "audioset_balanced", "audioset_eval", "celebv_hq"}
    assert wanted <= set(shipped_names("manifests"))
    assert {load_dataset(name).importer for name in shipped_names("manifests")} <= set(IMPORTERS)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"importer": "x"}, "importer must be one of"),
        ({"licens": "MIT"}, "did you mean licence"),
        ({"files": [{"name": "a", "urls": ["file:///etc/passwd"]}]}, "must be http"),
        ({"files": [{"name": "../a", "urls": ["http://h/a"]}]}, "plain file name"),
        ({"option_files": {"labels": "x"}}, "name no file"),
    ],
)
def test_wrong_descriptions(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        build(Dataset, {"importer": "vggsound", **change}, "x.yaml")


class Home(BaseHTTPRequestHandler):
    """A dataset's home: some files, a redirect, and what goes wrong on the way."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path.lstrip("/")
        if name == "flaky.csv" and self.asked.count(self.path) < 3:
            return self.send_error(503)
        if name in ("moved.csv", "evil.csv"):
            self.send_response(302)
            self.send_header(
                "Location", "/test.csv" if name == "moved.csv" else "file:///etc/hosts"
            )
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if name not in self.files:
            return self.send_error(404)
        body = self.files[name]
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if name == "page.csv" else "text/csv")
        self.send_header("Content-Length", str(len(body) + (100 if name == "cut.csv" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


LIST = f"{ID}_000030.mp4,rain\n{'a' * 11}_000001.mp4,dog\n".encode()


@pytest.fixture
def home() -> Iterator[str]:
    Home.files = dict.fromkeys(("test.csv", "flaky.csv", "cut.csv", "page.csv"), LIST)
    Home.files["categories.txt"] = b"rain\n"
    Home.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Home)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def described(path: Path, home: str, rows: int, **changes: Any) -> str:
    tree = {
        "title": "T",
        "licence": "CC BY 4.0",
        "attribution": "A",
        "importer": "vggsound",
        "files": [{"name": "test.csv", "urls": [f"{home}/test.csv"]}],
        "rows": rows,
        **changes,
    }
    return str(wrote(path / "mine.yaml", json.dumps(tree)))  # JSON is YAML


def test_get_downloads_and_imports(tmp_path: Path, home: str) -> None:
    out = tmp_path / "m.csv"
    done = CliRunner().invoke(app, ["get", described(tmp_path, home, 2), "-o", str(out)])
    assert (done.exit_code, done.output) == (0, f"{out}: 2 rows\n")
    clips = list(iter_manifest(str(out)))
    assert [clip.labels for clip in clips] == [("rain",), ("dog",)]
    assert {(c.dataset, c.licence, c.attribution, c.split) for c in clips} == {
        ("mine", "CC BY 4.0", "A", "test")
    }


def test_get_keeps_lists_and_fills_options_from_files(tmp_path: Path, home: str) -> None:
    files = [{"name": name, "urls": [f"{home}/{name}"]} for name in ("test.csv", "categories.txt")]
    option_files = {"categories": "categories.txt"}
    mine = described(tmp_path, home, 1, files=files, option_files=option_files)
    command = ["get", mine, "-o", str(tmp_path / "m.jsonl"), "--keep", str(tmp_path / "lists")]
    for _ in range(2):
        assert CliRunner().invoke(app, command).exit_code == 0
    assert sorted(Home.asked) == ["/categories.txt", "/test.csv"]
    assert (tmp_path / "lists/test.csv").read_bytes() == LIST
    assert [clip.labels for clip in iter_manifest(str(tmp_path / "m.jsonl"))] == [("rain",)]


def test_import_wants_the_files_that_options_take(tmp_path: Path, home: str) -> None:
    files = [{"name": name, "urls": [f"{home}/{name}"]} for name in ("test.csv", "categories.txt")]
    option_files = {"categories": "categories.txt"}
    mine = described(tmp_path, home, 1, files=files, option_files=option_files)
    listed = wrote(tmp_path / "lists/test.csv", LIST.decode())
    classes = wrote(tmp_path / "lists/categories.txt", "rain\n")
    other = wrote(tmp_path / "mine.txt", "dog\n")
    out = str(tmp_path / "m.jsonl")
    command = ["import", mine, str(listed), "-o", out]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ManifestError)
    assert f"needs categories.txt too ({home}/categories.txt)" in str(done.exception)
    for extra, label in (([str(classes)], "rain"), (["--option", f"categories={other}"], "dog")):
        assert CliRunner().invoke(app, [*command, *extra]).exit_code == 0
        assert [clip.labels for clip in iter_manifest(out)] == [(label,)]


def test_get_tells_when_the_list_has_changed(tmp_path: Path, home: str) -> None:
    command = ["get", described(tmp_path, home, 5), "-o", str(tmp_path / "m.csv")]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ManifestError)
    assert "2 rows where 5 were expected" in str(done.exception)
    assert CliRunner().invoke(app, [*command, "--option", "split=val"]).exit_code == 0


def test_download_mirrors_retries_and_redirects(tmp_path: Path, home: str) -> None:
    digest = hashlib.sha256(LIST).hexdigest()
    for number, names in enumerate((["gone.csv", "test.csv"], ["flaky.csv"], ["moved.csv"])):
        target = tmp_path / str(number)
        urls = tuple(f"{home}/{name}" for name in names)
        download(ListFile(name="x.csv", urls=urls, sha256=digest), target)
        assert target.read_bytes() == LIST
    target.write_bytes(b"old")
    download(ListFile(name="x.csv", urls=(f"{home}/test.csv",), sha256=digest), target)
    assert target.read_bytes() == LIST


@pytest.mark.parametrize(
    ("name", "sha256", "told"),
    [
        ("gone.csv", None, "answered 404"),
        ("page.csv", None, "a web page instead"),
        ("cut.csv", None, "failed"),
        ("evil.csv", None, "failed"),
        ("test.csv", "0" * 64, "expected 0000"),
    ],
)
def test_download_failures(
    tmp_path: Path, home: str, name: str, sha256: str | None, told: str
) -> None:
    file = ListFile(name="x.csv", urls=(f"{home}/{name}",), sha256=sha256)
    with pytest.raises(ManifestError, match=told):
        download(file, tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


def test_get_says_what_cannot_be_downloaded(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["get", "vegas", "-o", str(tmp_path / "m.csv")])
    assert isinstance(done.exception, ManifestError)
    assert "VEGAS.zip" in str(done.exception)
    done = CliRunner().invoke(app, ["get", "vegs"])
    assert "no dataset 'vegs'; known: " in str(done.exception)


def test_import_by_dataset_or_importer_name(tmp_path: Path) -> None:
    path = wrote(tmp_path / "test.csv", LIST.decode() + "bad\n")
    out = tmp_path / "m.csv"
    done = CliRunner().invoke(app, ["import", "vggsound", str(path), "-o", str(out)])
    assert done.exit_code == 0
    assert "bad_row: test.csv:3: " in done.output
    assert f"{out}: 2 rows, 1 bad rows left out" in done.output
    assert {c.licence for c in iter_manifest(str(out))} == {"CC BY 4.0"}
    wrote(tmp_path / "videos/a.mp4", "x")
    done = CliRunner().invoke(app, ["import", "folder", str(tmp_path / "videos"), "-o", str(out)])
    assert done.exit_code == 0
    assert [c.url for c in iter_manifest(str(out))] == [str(tmp_path / "videos/a.mp4")]


def test_the_readme_names_every_dataset_with_its_rows() -> None:
    text = (MANIFESTS / "README.md").read_text()
    for path in MANIFESTS.glob("*.yaml"):
        dataset = load_dataset(str(path))
        assert f"`{path.stem}`" in text
        assert dataset.rows is None or f"{dataset.rows:,}".replace(",", " ") in text


def test_the_list_command_names_everything() -> None:
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0
    assert all(name in done.output for name in [*shipped_names("manifests"), *IMPORTERS])


# --- hostile files -----------------------------------------------------------------------------


def workbook(path: Path, sheet: str, strings: str = "") -> Path:
    """Write the least that a reader takes for a workbook, around a sheet of one's own."""
    office = "http://schemas.openxmlformats.org"
    main, relations = f"{office}/spreadsheetml/2006/main", f"{office}/officeDocument/2006"
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/'
        f'content-types"><Override PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"'
        f'/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kinds}.worksheet+xml"/>'
        "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{office}/package/2006/relationships"><Relationship '
        f'Id="r1" Type="{relations}/relationships/officeDocument" Target="xl/workbook.xml"/>'
        "</Relationships>",
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}/relationships">'
        '<sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{office}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{relations}/relationships/worksheet" '
        'Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}">{sheet}</worksheet>',
    }
    if strings:
        parts["xl/sharedStrings.xml"] = strings
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def cell(at: str, text: str) -> str:
    return f'<c r="{at}" t="inlineStr"><is><t>{text}</t></is></c>'


HEADER = "".join(
    cell(f"{c}1", t) for c, t in zip("ABCD", ["ID", "Snow", "Forest", "Rain"], strict=True)
)


def test_a_workbook_is_read_whatever_size_it_claims(tmp_path: Path) -> None:
    rows = f'<row r="1">{HEADER}</row><row r="2">{cell("A2", ID)}{cell("XFD2", "x")}</row>'
    path = workbook(
        tmp_path / "m.xlsx",
        f'<dimension ref="A1:XFD1048576"/><sheetData>{rows}</sheetData>',
    )
    (clip,) = imported("into_the_wild", path)
    assert clip.source_id == ID


@pytest.mark.parametrize("kind", ["bomb", "entities", "broken", "no sheet"])
def test_hostile_workbooks(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.xlsx"
    if kind == "bomb":
        workbook(path, "", "<sst>" + " " * (80 * 2**20))
    elif kind == "entities":
        more = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        lol = f'<!DOCTYPE w [<!ENTITY l0 "lol">{more}]>'
        workbook(path, "")
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("xl/workbook.xml", f'<?xml version="1.0"?>{lol}<w>&l9;</w>')
    elif kind == "broken":
        workbook(path, "<sheetData><row><c></row>")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x", "y")
    with pytest.raises(ManifestError, match=r"m\.xlsx") as raised:
        imported("into_the_wild", path)
    assert len(str(raised.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("importer", "name", "content"),
    [
        ("celebv_hq", "x.json", "[" * 20_000),
        ("vggss", "x.json", "[" * 20_000),
        ("vggss", "x.json", '[{"file": ' + "9" * 5000 + "}]"),
        ("greatest_hits", "train.json", "[" * 20_000),
        ("audioset", "ontology.json", "[" * 20_000),
        ("audioset", "ontology.json", '[{"id": "/m/1"}]'),
        ("audioset", "ontology.json", '{"a": 1}'),
    ],
)
def test_hostile_json(tmp_path: Path, importer: str, name: str, content: str) -> None:
    with pytest.raises(ManifestError, match=name) as raised:
        imported(importer, wrote(tmp_path / name, content))
    assert len(str(raised.value)) < 300 + len(str(tmp_path))


def test_numbers_of_thousands_of_digits_cost_their_row(tmp_path: Path) -> None:
    digits = "9" * 5000
    path = wrote(tmp_path / "vggsound.csv", f"{ID},{digits},x,train\n{ID}_{digits}.mp4,x\n{ID}_5\n")
    assert [clip.reason for clip in imported("vggsound", path)] == ["bad_row", "bad_row", ""]
    entry = {"file": f"{ID}_{digits}", "class": "x", "bbox": []}
    good = {"file": f"{ID}_000001", "class": "x", "bbox": []}
    path = wrote(tmp_path / "vggss.json", json.dumps([entry, {"file": 5}, "x", good]))
    assert [clip.reason for clip in imported("vggss", path)] == [*["bad_row"] * 3, ""]
    path = wrote(tmp_path / "eval.csv", f'{ID}, {digits}, 5, "/m/1"\n{ID}, 1, 5, "/m/1"\n')
    assert [clip.reason for clip in imported("audioset", path)] == ["bad_row", ""]


@pytest.mark.parametrize(
    "record",
    ["[" * 20_000, "[[1e999, 1]]", "[[NaN, 1]]", '[[-1, "x"]]', "9" * 5000, "inf wood hit"],
)
def test_hostile_hit_records_cost_their_row(tmp_path: Path, record: str) -> None:
    names = ["2015-02-16-16-49-06", "2015-02-16-16-49-07"]
    wrote(tmp_path / "all" / names[0] / "hit_record.json", record)
    wrote(tmp_path / "all" / f"{names[1]}_times.txt", "1.5 wood hit static\n")
    bad, good = imported("greatest_hits", tmp_path / "all")
    assert (bad.reason, good.events_ms) == (Reason.BAD_ROW, (1500,))
    assert len(bad.detail) <= 500


def test_an_archive_with_a_password_is_no_archive(tmp_path: Path) -> None:
    path = hit_archive(tmp_path / "records.zip", ["2015-02-16-16-49-06"])
    data = bytearray(path.read_bytes())
    for mark, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags_at] |= 1  # encrypted
    path.write_bytes(bytes(data))
    with pytest.raises(ManifestError, match=r"records\.zip is not whole"):
        imported("greatest_hits", path)
