"""The sound encoder's trainer over small shards: what it learns, its terms, going on."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avdata.audio.spec import SOUND_GUIDED
from avdata.clip import Selection, Status
from avdata.store import Store
from avdata.tables import write_clips
from stages.engine.checkpoint import load_model, load_weights
from stages.engine.launch import launch, read_settings
from stages.engine.metrics_log import read_metrics
from stages.sound_guided import sound_pairs
from stages.sound_guided.embedder import MODEL, load_embedder, require_space
from stages.sound_guided.objective import Terms
from stages.sound_guided.sound_encoder import SoundEncoder
from stages.sound_guided.sound_pairs import SoundReader
from stages.text_image.model import TextImage
from stages.train_sound_clip import NAME, Settings, front_end, train
from tests.clip_factory import ClipFactory
from tests.shard_factory import pack
from tests.stages.evaluation_run import COLOURS, PITCHES_HZ
from tests.stages.programs import ROOT
from tests.stages.tell_ranks import weights_of_two_ranks
from tests.stages.text_image.tiny_models import letters_vocabulary, save_clip

RATE_HZ = 16_000
CLASSES = tuple(COLOURS)
CLIPS = {"train": 8, "val": 4}  # of each class
NO_PICTURE = Selection("none", (), ())
CLOCKED = {"samples_per_s", "data_wait_share"}
PLAIN = ("spec_augmented=none", "sound_augment={shift: 0, noise_chance: 0}")


def make_shards(
    folder: Path,
    *,
    labels: bool = True,
    pictures: bool = True,
    splits: tuple[str, ...] = tuple(CLIPS),
) -> Path:
    """Clips of half a second, of a video each, whose colour and pitch go together; two frames."""
    factory, clips, rng = ClipFactory(folder), [], np.random.default_rng(0)
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    for split in splits:
        for name in CLASSES:
            for n in range(CLIPS[split]):
                colour = COLOURS[name] + rng.normal(0, 12, (2, 64, 64, 3))
                tone = 0.3 * np.sin(2 * np.pi * (PITCHES_HZ[name] + 10 * n) * t)
                clips.append(
                    factory.clip(
                        f"{split}-{name}-{n}",
                        list(np.uint8(np.clip(colour, 0, 255))) if pictures else [],
                        [0.1, 0.3] if pictures else [],
                        tone if n % 3 else tone[: RATE_HZ // 3],
                        rate_hz=RATE_HZ,
                        source_id=f"{split}-{name}-{n}",
                        split=split,
                        labels=(f"{name}_sound",) if labels else (),
                        status=Status.ACCEPTED,
                        selection=Selection("mid", (1.0, 0.5), (0, 1)) if pictures else NO_PICTURE,
                    )
                )
    factory.part()
    write_clips(folder / "table.parquet", clips)
    pack(Store(str(folder)), ["table.parquet"])
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("sound-clip") / "made")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "tiny", *letters_vocabulary())


@pytest.fixture
def pipeline(tmp_path: Path, shards: Path, clip: Path) -> Path:
    path = tmp_path / "sounds.yaml"
    path.write_text(f"""
name: sounds
seed: 1
output: {tmp_path / "run"}
stages:
  {NAME}:
    train: {{steps: 4, batch_size: 6, log_every: 1, checkpoint_every: 2, evaluate_every: 2,
            workers: 1, shards: {shards}, device: cpu}}
    data: {{val_batch_size: 6}}
    texts: {{variants: 3}}
    clip: {clip}
    arch: tiny
    width: 4
    duration_s: 0.5
    sample_rate_hz: {RATE_HZ}
""")
    return path


def begin(pipeline: Path, *overrides: str, output: str = "run") -> Path:
    """Train in this process; return the training's folder."""
    folder = pipeline.parent / output
    words = [str(pipeline), "--set", f"output={folder}"]
    launch(NAME, Settings, train, words + [w for o in overrides for w in _changes(o)])
    return folder / "stages" / NAME


def _changes(override: str) -> list[str]:
    return ["--set", f"stages.{NAME}.{override}"]


def curve(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in CLOCKED} for line in read_metrics(folder)]


# end to end


def test_from_shards_to_an_ear(pipeline: Path, clip: Path, shards: Path) -> None:
    folder = begin(pipeline, "data.frames=picked", "train.epochs=2", "train.steps=null")
    model, metadata = load_model(folder)
    assert isinstance(model, SoundEncoder)
    assert metadata["model"] == MODEL
    assert metadata["audio"]["sample_rate_hz"] == RATE_HZ
    last = curve(folder)[-1]
    terms = {"loss", "text", "image", "sound", "weak", "zero_shot"}
    expected = {*terms, *(f"val_{name}" for name in terms), "scale_text", "scale_image"}
    assert expected <= last.keys()
    assert last["loss"] == pytest.approx(sum(last[n] for n in ("text", "image", "sound", "weak")))
    # Features of every frame of both splits and of the texts, kept beside the run.
    tables = [np.load(path) for path in (folder.parent / "features").glob("*.npy")]
    assert {len(t) for t in tables} >= {2 * 3 * n for n in CLIPS.values()}

    ear, eye = load_embedder(folder), TextImage.load(clip)
    require_space(ear, eye, "this")
    assert ear.dim == eye.dim == 16
    torch.testing.assert_close(ear.embed(torch.zeros(1, 8000)).norm(), torch.tensor(1.0))


@pytest.mark.slow
def test_sounds_find_the_texts_of_held_out_clips(pipeline: Path) -> None:
    folder = begin(
        pipeline,
        *("train.steps=50", "train.batch_size=12", "train.evaluate_every=50", "lr=0.003"),
        *("width=8", "terms.mask_repeated=true"),
    )
    assert curve(folder)[-1]["val_zero_shot"] >= 0.75  # chance is a third


def test_one_batch_is_learnt_to_the_optimum(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three kinds, text and picture of each at right angles to the others': a is told apart."""
    axes, colours = np.eye(3, 16, dtype=np.float32), np.array([COLOURS[c] for c in CLASSES])

    def texts(_: TextImage, given: Sequence[str]) -> NDArray[np.float32]:
        return axes[[CLASSES.index(text.split()[0]) for text in given]]

    def pictures(_: TextImage, given: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        means = np.array([image.mean(axis=(0, 1)) for image in given])
        return axes[np.linalg.norm(means[:, None] - colours, axis=2).argmin(axis=1)]

    class FirstOfEachKind(SoundReader):
        def __call__(self, rows: NDArray[np.int64], epoch: int | None) -> Any:
            kinds = [own[0] for own in self.clips.labels]
            first = [kinds.index(f"{name}_sound") for name in CLASSES]
            return SoundReader.__call__(self, np.array(first), None)

    monkeypatch.setattr(TextImage, "texts", texts)
    monkeypatch.setattr(TextImage, "pictures", pictures)
    monkeypatch.setattr(sound_pairs, "SoundReader", FirstOfEachKind)
    folder = begin(
        pipeline,
        *(*PLAIN, "texts.variants=1", "lr=0.01"),
        *(
            "train.steps=80",
            "train.batch_size=3",
            "train.evaluate_every=80",
            "data.val_batch_size=3",
        ),
    )
    last = curve(folder)[-1]
    # Where a is the axis of its kind: cosines of 1 and 0, rows equal to the teacher's.
    on_the_axes = 2 * math.log(1 + 2 * math.exp(-last["scale_text"]))
    assert 0 < last["text"] < on_the_axes + 5e-3
    assert 0 < last["image"] < on_the_axes + 5e-3
    assert last["loss"] < 0.02
    assert last["zero_shot"] == 1


@pytest.mark.parametrize("name", ["vggsound", "audioset"])
def test_the_pipeline_files_are_the_paper(name: str) -> None:
    path = ROOT / f"pipelines/soundguided_{name}.yaml"
    _, settings = read_settings(str(path), [], NAME, Settings)
    assert (settings.lr, settings.beta1, settings.weight_decay) == (1e-3, 0.9, 1e-4)
    assert (settings.train.batch_size, settings.train.epochs) == (384, 50)
    assert settings.restart_epochs == 10
    assert (settings.arch, settings.clip) == ("swin_t", "clip_vit_b32")
    assert front_end(settings) == SOUND_GUIDED
    assert settings.terms == Terms()
    assert settings.data.held_out_share is not None  # their lists have no val split


# terms and options


@pytest.mark.parametrize(
    ("off", "gone"),
    [
        ("terms.text=false", "text"),
        ("terms.image=false", "image"),
        ("terms.sound=false", "sound"),
        ("terms.weak=none", "weak"),
    ],
)
def test_a_term_that_is_off_changes_no_other(off: str, gone: str, pipeline: Path) -> None:
    """Of the first step, before they have moved the weights."""
    # Without a draw for â before it, the sounds themselves stay the same.
    whole = curve(begin(pipeline, "train.steps=1"))[0]
    less = curve(begin(pipeline, "train.steps=1", off, output="less"))[0]
    assert gone in whole
    assert gone not in less
    for name in {"text", "image", "sound", "weak"} - {gone}:
        assert less[name] == pytest.approx(whole[name], rel=1e-6)
    assert less["loss"] == pytest.approx(whole["loss"] - whole[gone], rel=1e-5)
    ear, _ = load_model(pipeline.parent / "less/stages" / NAME)
    assert isinstance(ear, SoundEncoder)


def test_terms_alone_and_none_at_all(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = ("terms.text=false", "terms.image=false", "terms.sound=false")
    line = curve(begin(pipeline, *alone, "train.steps=2"))[-1]
    assert line["loss"] == pytest.approx(line["weak"])
    assert not [name for name in line if name.startswith("scale")]
    with pytest.raises(SystemExit):
        begin(pipeline, *alone, "terms.weak=none")
    assert "all terms are off" in capsys.readouterr().err


def test_sounds_without_pictures(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = make_shards(tmp_path / "heard", pictures=False)
    blind = ("terms.image=false", "terms.weak=none", f"train.shards={heard}")
    last = curve(begin(pipeline, *blind, "train.steps=2"))[-1]
    assert {"text", "sound", "val_zero_shot"} <= last.keys()
    with pytest.raises(SystemExit):
        begin(pipeline, f"train.shards={heard}", output="seen")
    assert "have no picture" in capsys.readouterr().err


def test_readings_masks_and_augmentations_differ(pipeline: Path) -> None:
    """Each option changes its own term, at the first step."""
    whole = curve(begin(pipeline, "train.steps=1"))[0]
    for n, (option, changed) in enumerate(
        {
            "terms.weak=diagonal": {"weak"},
            "terms.mask_repeated=true": {"text", "image", "sound"},
            "spec_augmented=none": {"sound"},
            "reference=relative": {"text", "image", "sound", "weak"},
        }.items()
    ):
        other = curve(begin(pipeline, "train.steps=1", option, output=f"other{n}"))[0]
        found = {k for k in ("text", "image", "sound", "weak") if other[k] != whole[k]}
        assert found == changed, option


def test_texts_are_said_in_other_ways_and_as_they_are_where_it_counts(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    call = SoundReader.__call__

    def keep(reader: SoundReader, rows: NDArray[np.int64], epoch: int | None) -> Any:
        found = call(reader, rows, epoch)
        drawn.append((epoch, reader, rows, found))
        return found

    monkeypatch.setattr(SoundReader, "__call__", keep)
    begin(pipeline, "train.steps=8", "train.evaluate_every=8", "data.frames=picked")
    texts = {epoch: set() for epoch, *_ in drawn}
    for epoch, reader, rows, found in drawn:
        texts[epoch] |= set(found.text_rows.tolist())
        frames = np.stack([found.pairs.frame_rows, found.weak_rows]) // 2  # two of each clip
        assert (frames[0] == reader.clips.first_frame[rows] // 2).all()
        assert (frames[0] != frames[1]).all()  # never itself
        kinds = np.array([own[0] for own in reader.clips.labels])
        assert (kinds[frames[0]] == kinds[frames[1]]).all()
    assert len(texts[None]) == 3
    assert texts[None] < texts[0] | texts[1]
    again = call(drawn[0][1], drawn[0][2], drawn[0][0])
    assert (again.weak_rows == drawn[0][3].weak_rows).all()
    assert (again.text_rows == drawn[0][3].text_rows).all()


# stopping, resuming, several processes


def test_interrupted_it_goes_on_bit_for_bit(pipeline: Path) -> None:
    options = ("data.frames=picked", "train.workers=2", "train.evaluate_every=3")
    whole = begin(pipeline, *options, "train.steps=6")
    begin(pipeline, *options, "train.steps=3", output="again")
    again = begin(pipeline, *options, "train.steps=6", output="again")
    assert curve(again) == curve(whole)
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_learn_as_one(pipeline: Path) -> None:
    """Same negatives, weak pairs and texts; what is drawn of sounds themselves is left out."""
    values = (*PLAIN, "train.steps=3", "terms.mask_repeated=true", "lr=0.0001")
    ranks = weights_of_two_ranks(NAME, pipeline, *values, "train.workers=0")
    two = curve(pipeline.parent / "run/stages" / NAME)
    one = begin(pipeline, *values, output="one")
    for both, alone in zip(two, curve(one), strict=True):
        for name in alone.keys() - {"grad_norm"}:
            assert both[name] == pytest.approx(alone[name], rel=1e-4, abs=1e-6), name
    _, weights = load_weights(one / "checkpoints/step-00000003/sound_encoder.safetensors")
    for name, expected in weights.items():
        assert torch.equal(ranks[0][f"sound_encoder.{name}"], ranks[1][f"sound_encoder.{name}"])
        torch.testing.assert_close(
            ranks[0][f"sound_encoder.{name}"], expected, rtol=1e-3, atol=2e-5
        )


# where it starts, and which space it is of


def test_another_text_image_model_is_refused_when_it_goes_on(
    pipeline: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eye = tmp_path / "eye"
    shutil.copytree(clip, eye)
    begin(pipeline, f"clip={eye}", "train.steps=2")
    begin(pipeline, f"clip={eye}", "train.steps=3")
    (eye / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.4, 0.4, 0.4]}))
    with pytest.raises(SystemExit) as stop:
        begin(pipeline, f"clip={eye}", "train.steps=6")
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert f"was aligned to another text-image model ({eye}) than {eye}" in message
    assert "--fresh" in message


def test_an_earlier_training_is_a_start(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = begin(pipeline, "train.steps=2")
    again = begin(pipeline, f"init_from={first}", "lr=1.0e-12", "train.steps=1", output="again")
    _, expected = load_weights(first)
    for name, value in load_weights(again)[1].items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-8)
    with pytest.raises(SystemExit):
        begin(pipeline, f"init_from={first}", "width=8", output="wide")
    assert "give this one its arch and width" in capsys.readouterr().err


# bad input


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("clip=/nowhere",), ["/nowhere", f"stages.{NAME}.clip"]),
        (("data.val_batch_size=13",), ["12 clips are left for val", "data.val_batch_size"]),
        (("train.batch_size=64",), ["24 clips are left for train", "train.batch_size"]),
        (("data.val_batch_size=1",), ["at least 2", "always 0"]),
        (("train.accumulate=2",), ["whole batch", "accumulate must be 1"]),
        (("duration_s=0.01",), ["duration_s", "shorter than a window"]),
        (
            ("sample_rate_hz=44100",),
            ["hold 16000 Hz", "steps.trim.sample_rate_hz=44100", "to theirs"],
        ),
        (("arch=resnet18",), ["width is of tiny alone"]),
        (("texts.prompt='a sound'",), ["prompt must hold {} once"]),
        (("texts.file=/nowhere.yaml",), ["/nowhere.yaml"]),
        (("init_from=/nowhere.pth",), ["there is no /nowhere.pth", "`avdata weights` lists"]),
        ((f"init_from={__file__}",), [__file__, "swin_t or resnet18"]),
    ],
)
def test_messages(
    overrides: tuple[str, ...],
    words: list[str],
    pipeline: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        begin(pipeline, *overrides)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_labels_without_a_text(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.yaml"
    file.write_text("fire_sound: a fire\nsnow_sound: [snow, steps in snow]\n")
    with pytest.raises(SystemExit):
        begin(pipeline, f"texts.file={file}")
    message = capsys.readouterr().err
    assert "1 of 3 labels have no text in" in message
    assert "'sea_sound'" in message
    file.write_text("fire_sound: a fire\nsnow_sound: [snow, steps in snow]\nsea_sound: waves\n")
    begin(pipeline, f"texts.file={file}", "train.steps=1")


def test_of_a_text_that_is_too_long_the_beginning_is_read(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.yaml"
    file.write_text(f"fire_sound: {'a fire ' * 40}\nsnow_sound: snow\nsea_sound: waves\n")
    begin(pipeline, f"texts.file={file}", "train.steps=1", "texts.variants=1")
    told = " ".join("".join(capsys.readouterr()).split())
    assert "1 of 3 texts have more than 77 tokens" in told
    assert "'a fire a fire" in told


def test_clips_without_labels_and_splits_without_clips(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unlabelled = make_shards(tmp_path / "unlabelled", labels=False)
    with pytest.raises(SystemExit):
        begin(pipeline, f"train.shards={unlabelled}")
    assert "no clip of train" in capsys.readouterr().err
    untold = make_shards(tmp_path / "untold", splits=("train",))
    with pytest.raises(SystemExit):
        begin(pipeline, f"train.shards={untold}")
    message = capsys.readouterr().err
    assert "no clips in split 'val'" in message
    assert f"stages.{NAME}.data.held_out_share=0.1" in message
    held_out = ("data.held_out_share=0.3", "data.val_batch_size=4")
    begin(pipeline, f"train.shards={untold}", *held_out, "train.steps=1")
