"""The AVStyle trainer over small shards: end to end, what learns from what, resuming, ablations."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from avdata.audio.spec import AVSTYLE
from avdata.config import ShardSettings
from avdata.measures import class_names
from avdata.store import Store
from stages.avstyle.conditions import ClassVector
from stages.avstyle.consistency import Painted, PatchConsistency
from stages.avstyle.generator import Generator
from stages.avstyle.projections import Projections
from stages.engine import checkpoint
from stages.engine.checkpoint import load_model, load_weights, read_metadata, require_audio
from stages.engine.launch import launch
from stages.engine.run import Run
from stages.train_avstyle import Settings, train
from tests import shard_factory
from tests.shard_factory import Made, pack, write_table
from tests.stages.programs import python
from tests.stages.tell_ranks import weights_of_two_ranks
from tests.stages.toy_runs import curve, same, weights

NAME = "train_avstyle"
RATE_HZ = 16_000
SIDE_PX = 32
KINDS = ((200, 40, 40), (40, 40, 200))  # of pictures: red ones hum, blue ones whistle


def coloured(made: Made, frame: int) -> np.ndarray:
    """Stripes on the colour of the kind, wider and brighter from frame to frame."""
    colour = np.array(KINDS[made.number % 2]) + 10 * frame
    bright = np.arange(SIDE_PX) // (made.number % 5 + 2) % 2 * 45
    stripes = np.broadcast_to(colour + bright[None, :, None], (SIDE_PX, SIDE_PX, 3))
    return stripes.clip(0, 255).astype(np.uint8)


def pitched(made: Made) -> np.ndarray:
    """A pitch per kind, in a noise of the clip's own."""
    rng = np.random.default_rng(made.number)
    t = np.arange(made.n_samples) / RATE_HZ
    wave = 0.3 * np.sin(2 * np.pi * (2500 if made.number % 2 else 300) * t)
    return ((wave + 0.01 * rng.standard_normal(t.size)) * 32767).astype(np.int16)


def hum(made: Made) -> np.ndarray:
    """The same for all."""
    return pitched(Made(0, n_samples=made.n_samples))


def pack_clips(
    folder: Path,
    numbers: range,
    sound: Callable[[Made], np.ndarray] = pitched,
    val: int = 5,
    n_samples: int = 64_000,
) -> Path:
    """Pack clips of four seconds, every third shorter than a window of 3 s, the last held out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_factory, "picture", coloured)
        patch.setattr(shard_factory, "sound", sound)
        patch.setattr(shard_factory, "SAMPLE_RATE_HZ", RATE_HZ)
        clips = [
            Made(
                n,
                split="val" if n > numbers[-1] - val else "train",
                n_samples=n_samples if n % 3 else min(n_samples, 20_000),
            )
            for n in numbers
        ]
        store = Store(str(folder))
        pack(store, [write_table(store, "part", clips)], ShardSettings(max_clips=10))
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 clips to train on, 5 held out: 32 x 32 px, 16 kHz."""
    return pack_clips(tmp_path_factory.mktemp("coloured"), range(17))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other pictures: 9 clips, so that their epochs end elsewhere, and 3 held out."""
    return pack_clips(tmp_path_factory.mktemp("contents"), range(100, 112), val=3)


@pytest.fixture
def pipeline(tmp_path: Path, shards: Path, contents: Path) -> Path:
    """Six updates of four clips, by networks as small as they can be."""
    path = tmp_path / "styles.yaml"
    path.write_text(f"""
name: styles
seed: 1
output: {tmp_path / "run"}
stages:
  train_avstyle:
    train: {{steps: 6, batch_size: 4, log_every: 1, checkpoint_every: 4, evaluate_every: 3,
            workers: 1, shards: {shards}, device: cpu}}
    content_shards: {contents}
    resolution_px: 16
    width: 4
    blocks: 3
    discriminator_width: 4
    discriminator_layers: 2
    sound_dim: 8
    arch: tiny
    sound_width: 4
    patches: 16
""")
    return path


def arguments(pipeline: Path, overrides: tuple[str, ...]) -> list[str]:
    words = [str(pipeline)]
    for text in overrides:
        words += ["--set", text if text.startswith("output=") else f"stages.{NAME}.{text}"]
    return words


def folder_of(pipeline: Path, run: str = "run") -> Path:
    return pipeline.parent / run / "stages" / NAME


def here(pipeline: Path, *overrides: str, run: str = "run") -> Path:
    """Train in this process, and return the folder."""
    words = (*overrides, f"output={pipeline.parent / run}")
    launch(NAME, Settings, train, arguments(pipeline, words))
    return folder_of(pipeline, run)


def started(
    pipeline: Path, *overrides: str, processes: int = 0
) -> subprocess.CompletedProcess[str]:
    starter = ["-m"]
    if processes:
        torchrun = "torch.distributed.run"
        starter += [torchrun, "--standalone", f"--nproc-per-node={processes}", "-m"]
    return python([*starter, f"stages.{NAME}", *arguments(pipeline, overrides)])


def finite(lines: list[dict[str, float]]) -> bool:
    return all(np.isfinite(value) for line in lines for value in line.values())


# End to end --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_shards_to_generator_and_sound_encoder(pipeline: Path) -> None:
    done = started(pipeline)
    assert done.returncode == 0, done.stderr
    folder = folder_of(pipeline)
    networks = []
    for product in ("generator", "sound_encoder"):
        network, metadata = load_model(folder, product=product)
        assert (metadata["model"], metadata["step"]) == (f"avstyle_{product}", 6)
        networks.append(network)
    require_audio(read_metadata(folder, "sound_encoder"), AVSTYLE, "product")
    generator, sound_encoder = networks
    made = generator(torch.zeros(2, 3, 16, 16), sound_encoder(torch.zeros(2, *AVSTYLE.shape)))
    assert made.shape == (2, 3, 16, 16)
    last = curve(folder)[-1]
    losses = {f"{half}{name}" for half in ("g_", "val_") for name in ("gan", "nce", "identity")}
    assert losses | {"d_real", "d_fake", "d_loss", "val_hears", "lr"} <= last.keys()
    expected = last["g_gan"] + 0.5 * last["g_nce"] + 0.5 * last["g_identity"]
    assert last["g_loss"] == pytest.approx(expected, rel=1e-5)
    sheet = Image.open(folder / "samples" / "step-00000006.png")
    assert sheet.size == (3 * 16, 3 * 16)  # three held-out contents; x, y and G(x)


def test_an_epoch_shows_every_clip_of_the_larger_folder_some_times(pipeline: Path) -> None:
    """12 clips, 4 at once, each 3 times: 9 updates; the last 2 of 3 epochs fall by thirds."""
    folder = here(
        pipeline,
        *("train.steps=null", "train.epochs=3", "train.evaluate_every=9", "frames_per_clip=3"),
        *("decay_epochs=2", "lr=0.0003", "held_out=null"),
    )
    rates = [line["lr"] for line in curve(folder)]
    assert rates == pytest.approx([3e-4] * 9 + [2e-4] * 9 + [1e-4] * 9)


@pytest.mark.slow
def test_one_batch_is_learnt(pipeline: Path, tmp_path: Path) -> None:
    """Four clips of one kind: patches know themselves again; of cycle, B(G(x)) is x and G(y) y."""
    few = pack_clips(tmp_path / "few", range(0, 8, 2), val=0)
    options = (
        *("train.steps=100", "lr=0.002", "held_out=null", "load_px=16", "width=8"),
        *(f"train.shards={few}", f"content_shards={few}"),
    )
    nothing_told = np.log(16)  # PatchNCE of 16 patches that are all alike
    nce = curve(here(pipeline, *options))
    assert max(nce[-1]["g_nce"], nce[-1]["g_identity"]) < 0.8 * nothing_told
    cycle = curve(here(pipeline, *options, "consistency=cycle", run="cycle"))
    assert cycle[-1]["g_cycle"] < 0.2 < 0.4 < cycle[0]["g_cycle"]
    assert cycle[-1]["g_identity"] < 0.2 < 0.4 < cycle[0]["g_identity"]


# What learns from what ---------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [(), ("fusion=late",), ("consistency=cycle",)])
def test_each_loss_moves_its_own_networks(
    overrides: tuple[str, ...], pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D's gives gradients to D alone, G's to generator, ear and helper alone; all of them learn."""
    backward, update = Run.backward, Run.update
    events: list[tuple[str, set[str]]] = []

    def networks(run: Run[Any]) -> dict[str, nn.Module]:
        return {name: model.module for name, model in run._keeper.models.items()}

    def spied_backward(run: Run[Any], models: Any, batches: Any, loss: Any) -> Any:
        values = backward(run, models, batches, loss)
        moved = {
            name
            for name, network in networks(run).items()
            if any(p.grad is not None and p.grad.any() for p in network.parameters())
        }
        assert not any(painted.told.requires_grad for painted in batches)
        events.append(("gradient", moved))
        return values

    def spied_update(run: Run[Any], optimizer: Any, lr: float | None = None) -> Tensor:
        before = {n: [p.clone() for p in m.parameters()] for n, m in networks(run).items()}
        norm = update(run, optimizer, lr)
        changed = {
            name
            for name, network in networks(run).items()
            if any(
                not torch.equal(*two)
                for two in zip(network.parameters(), before[name], strict=True)
            )
        }
        events.append(("update", changed))
        return norm

    monkeypatch.setattr(Run, "backward", spied_backward)
    monkeypatch.setattr(Run, "update", spied_update)
    here(pipeline, *overrides, "train.steps=2", "train.evaluate_every=2")
    helper = "back" if "consistency=cycle" in overrides else "projections"
    step = [
        ("gradient", {"discriminator"}),
        ("update", {"discriminator"}),
        ("gradient", {"generator", "sound_encoder", helper}),
        ("update", {"generator", "sound_encoder"}),
        ("update", {helper}),
    ]
    assert events == 2 * step


def test_keys_stay_where_they_are(pipeline: Path) -> None:
    """PatchNCE moves the new picture towards the old one's patches, not these towards it."""
    torch.manual_seed(0)
    content = Generator(width=4, blocks=3, sound_dim=8).content
    mlps = Projections(channels=content.layer_channels)
    fake = (torch.rand(1, 3, 16, 16) - 0.5).requires_grad_()
    layers = [y.detach().requires_grad_() for y in content.layers(torch.rand(1, 3, 16, 16))]
    compared = fake.detach()

    def look(run: Run[Any]) -> None:
        consistency = PatchConsistency(run, content, mlps, patches=9, temperature=0.07)
        painted = Painted([], compared, compared, compared, fake, None, layers)
        consistency(painted).consistency.backward()

    launch(NAME, Settings, look, arguments(pipeline, ()))
    assert fake.grad is not None
    assert fake.grad.any()
    assert all(layer.grad is None for layer in layers)


# Stopping, ranks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [(), ("consistency=cycle", "pool_size=5")])
def test_killed_it_goes_on_bit_for_bit(overrides: tuple[str, ...], pipeline: Path) -> None:
    """At step 6 of 6, after the checkpoint of step 4; the pool was full by then."""
    words = arguments(pipeline, overrides)
    killed = python(["-m", "tests.stages.killed", NAME, "6", *words])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder, whole = here(pipeline, *overrides), here(pipeline, *overrides, run="whole")
    assert curve(folder) == curve(whole)
    last = Path("checkpoints/step-00000006")
    for file in sorted((whole / last).glob("*.safetensors")):
        assert same(weights(folder / last / file.name), weights(file)), file.name
    assert same(*(checkpoint.read_state(f / last) for f in (folder, whole)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "tolerance"),
    [
        (("mismatched=true",), 0.2),
        (("condition=keyword", "consistency=cycle", "pool_size=5"), 0.02),
    ],
)
def test_two_processes_learn_as_one(
    overrides: tuple[str, ...], tolerance: float, pipeline: Path, tmp_path: Path
) -> None:
    """The same losses and gradients, in steps so small that rounding does not grow.

    All sounds are one, as batch norm, and who is whose mismatch, go by the rank. Norms magnify the
    rounding: of gradients a few percent, as in one process with accumulate 2. Gradients that are
    not exchanged would be off by more than half.
    """
    same_sound = pack_clips(tmp_path / "hum", range(16), hum, val=4)
    options = (*overrides, f"train.shards={same_sound}", "lr=0.0000001")
    ranks = weights_of_two_ranks(NAME, pipeline, *options)
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items())
    alone, both = here(pipeline, *options, run="alone"), folder_of(pipeline)
    for mine, other in zip(curve(both), curve(alone), strict=True):
        assert mine.pop("g_grad_norm") == pytest.approx(other.pop("g_grad_norm"), rel=tolerance)
        assert mine == pytest.approx(other, rel=2e-3, abs=1e-5)
    states = [checkpoint.read_state(f / "checkpoints/step-00000006") for f in (both, alone)]
    for name in ("generator", "helper", "discriminator"):
        mine, other = (averaged_gradient(state["optimizers"][name]) for state in states)
        assert float((mine - other).norm() / other.norm()) < tolerance, name


def averaged_gradient(adam: dict[str, Any]) -> Tensor:
    return torch.cat([state["exp_avg"].flatten() for state in adam["state"].values()])


# Ablations and baselines -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("enters=film",), {"g_nce"}),
        (("mismatched=true",), {"d_mismatched"}),
        (("fusion=late", "train.accumulate=2"), {"g_nce"}),
        (("identity_weight=0", "consistency_weight=1"), {"g_nce"}),
        (("consistency=cycle", "enters=film", "mismatched=true"), {"g_cycle", "d_mismatched"}),
        (("decay=zero", "train.ema_decay=0.9", "train.precision=bf16"), {"g_identity"}),
    ],
)
def test_every_ablation_trains(
    overrides: tuple[str, ...], expected: set[str], pipeline: Path
) -> None:
    folder = here(pipeline, *overrides, "train.steps=2", "train.evaluate_every=2")
    lines = curve(folder)
    assert expected <= lines[-1].keys()
    assert ("g_identity" in lines[-1]) == ("identity_weight=0" not in overrides)
    assert finite(lines)
    assert (folder / "generator.safetensors").is_file()


@pytest.mark.parametrize("condition", ["classes", "keyword"])
@pytest.mark.parametrize("vectors", [False, True])
def test_baselines_are_told_classes_or_words(
    condition: str, vectors: bool, pipeline: Path, tmp_path: Path
) -> None:
    words = sorted({word for name in class_names() for word in re.findall(r"\w+", name.lower())})
    (tmp_path / "words.txt").write_text("".join(f"{word} {len(word)} 1.5\n" for word in words))
    overrides = [f"condition={condition}", "train.steps=2", "train.evaluate_every=2"]
    overrides += [f"word_vectors={tmp_path / 'words.txt'}"] if vectors else []
    folder = here(pipeline, *overrides)
    assert finite(curve(folder))
    metadata, values = load_weights(folder, "condition")
    names = class_names() if condition == "classes" else ("rain", "wind")
    assert tuple(metadata["settings"]["names"]) == names
    assert isinstance(load_model(folder, product="condition")[0], ClassVector)
    if vectors:
        assert values["words"][:, 1].tolist() == [1.5] * len(names)
    assert not (folder / "sound_encoder.safetensors").exists()


def test_the_sound_encoder_starts_from_an_earlier_training(pipeline: Path) -> None:
    first = here(pipeline, "train.steps=2", "held_out=null", run="first")
    again = here(pipeline, f"init_from={first}", "lr=0", "train.steps=1", "held_out=null")
    start, end = (load_weights(folder, "sound_encoder")[1] for folder in (first, again))
    for name, value in start.items():
        if "running" not in name and "tracked" not in name:  # they move with every batch
            assert torch.equal(end[name], value), name
    other = load_weights(again, "generator")[1]
    assert not torch.equal(
        other["content.first.weight"], load_weights(first, "generator")[1]["content.first.weight"]
    )


# Bad input ---------------------------------------------------------------------------------------


def test_silence_is_no_accident(pipeline: Path, tmp_path: Path) -> None:
    def silent(made: Made) -> np.ndarray:
        return np.zeros(made.n_samples, np.int16)

    quiet = pack_clips(tmp_path / "quiet", range(10), silent, val=2)
    lines = curve(here(pipeline, f"train.shards={quiet}", "train.steps=3"))
    assert finite(lines)


def test_videos_without_sound_are_contents_alone(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(made: Made) -> np.ndarray:
        return np.zeros(0, np.int16)

    mute = pack_clips(tmp_path / "mute", range(10), none, val=2, n_samples=0)
    options = ("train.steps=1", f"content_shards={mute}", "held_out=null")
    assert finite(curve(here(pipeline, *options)))
    with pytest.raises(SystemExit) as ended:
        here(pipeline, *options, f"train.shards={mute}", run="mute")
    assert ended.value.code == 2
    assert f"not one of the 8 clips of train in {mute} has sound" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("resolution_px=64",), "pictures of 72 px are asked for, the shards"),
        (("load_px=33",), "pictures of 33 px are asked for"),
        (("load_px=12",), "load_px must be at least resolution_px, 16, got 12"),
        (("resolution_px=18",), "resolution_px must be a multiple of 4 from 8 on, got 18"),
        (("blocks=2",), "blocks must be 3 or more, got 2"),
        (("decay_epochs=51",), "decay_epochs must be at most train.epochs, 50, got 51"),
        (("mismatched=true", "train.accumulate=4"), "has 1: raise train.batch_size"),
        (("train.strategy=fsdp",), "use train.strategy auto or ddp"),
        (("held_out=test",), "no clips in split 'test'"),
        (("content_shards=/nowhere",), "/nowhere"),
        (("init_from=/nowhere.pth",), "/nowhere.pth"),
        (("arch=vgg",), "arch must be one of"),
        (("init_from=/nowhere.pth", "condition=classes"), "condition classes has none"),
        (("condition=keyword", "word_vectors=/nowhere"), "cannot read word vectors from /nowhere"),
    ],
)
def test_unusable_settings_are_explained(
    overrides: tuple[str, ...], message: str, pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        here(pipeline, *overrides)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
