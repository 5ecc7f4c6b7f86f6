"""What a trainer is promised: helpful refusals, best checkpoints, precision, clipping."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from avdata.strict import section
from stages.engine.checkpoint import checkpoints, load_weights
from stages.engine.fabric import Autocast, make_fabric
from stages.engine.launch import launch
from stages.engine.run import Run
from stages.engine.settings import TrainSettings
from tests.stages.toy_runs import curve, folder_of, run_here, run_program, weights


def refused(capsys: pytest.CaptureFixture[str], pipeline: Path, *overrides: str) -> str:
    with pytest.raises(SystemExit, match="2"):
        run_here(pipeline, *overrides)
    return capsys.readouterr().err


def test_program(pipeline: Path) -> None:
    done = run_program(pipeline, "train.steps=2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"train_toy 2/2 .* left .*loss 0\.\d+", done.stdout)
    folder = folder_of(pipeline)
    settings = yaml.safe_load((folder / "settings.yaml").read_text())
    assert settings["train"]["steps"] == 2
    assert settings["lr"] == 0.01
    start = json.loads((folder / "environment.jsonl").read_text())
    assert start["versions"]["torch"] == torch.__version__
    assert list((folder / "tensorboard").iterdir())
    wrong = run_program(pipeline, "learning_rate=1")
    assert wrong.returncode == 2
    assert "stages.train_toy: unknown key 'learning_rate'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=0", "steps must be greater than 0, got 0"),
        ("train.precision=fp16", "train: precision must be one of 'fp32', 'tf32', 'bf16'"),
        ("train.batchsize=3", "did you mean batch_size?"),
        ("train.patience=2", "patience needs keep_best"),
        ("train.ema_decay=1.0", r"ema_decay must lie in \[0, 1\), got 1.0"),
        ("train.accumulate=3", "batch_size 4 must divide by 1 processes times accumulate 3"),
        ("train.batch_size=40", "split train .* has fewer clips than one batch of 40"),
        ("picture_px=64", "pictures of 64 px are asked for, the shards .* hold 32 x 32 px"),
        ("hears_hz=16000", "hears at 16000 Hz, the shards .* hold 8000 Hz"),
        ("held_out=val", "has no clips in split 'val'"),
        ("train.shards=/nowhere", "not a folder of shards"),
        ("train.keep_best=val_recall", "keep_best is 'val_recall'; evaluated are val_loss"),
        ("output=s3://bucket/run", "stages write to a local folder"),
    ],
)
def test_refusals(
    override: str, message: str, pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(message, refused(capsys, pipeline, override))


def test_loss_that_is_not_finite(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Step 5 is spoilt; it is noticed with the next log, at step 6, before anything is saved."""
    message = refused(capsys, pipeline, "spoil_step=5", "train.log_every=100")
    folder = folder_of(pipeline)
    assert "not finite at step 5: nan on clip00" in message
    assert f"last good checkpoint is {folder}/checkpoints/step-00000003" in message
    assert list(checkpoints(folder / "checkpoints")) == [3]
    assert not (folder / "model.safetensors").exists()


def test_gradient_that_is_not_finite(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The loss of step 6 is finite; its gradient would be in the checkpoint of that step."""
    message = refused(capsys, pipeline, "spoil_gradient_step=6", "train.log_every=100")
    assert "the norm of the gradient of optimizer is not finite at step 6: nan" in message
    assert list(checkpoints(folder_of(pipeline) / "checkpoints")) == [3]


def test_weights_that_are_not_finite(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loss and gradient of step 6 are finite, what it leads to is not."""
    message = refused(capsys, pipeline, "spoil_weights_step=6")
    assert "weights of model are not finite after step 6, which is not saved" in message
    assert list(checkpoints(folder_of(pipeline) / "checkpoints")) == [3]


@pytest.mark.parametrize(("precision", "exact"), [("fp32", True), ("tf32", False), ("bf16", False)])
def test_precision_of_products_and_convolutions(precision: str, exact: bool) -> None:
    """torch leaves convolutions at TF32 whatever the precision of matrix products is."""
    make_fabric(TrainSettings(precision=precision, device="cpu"))
    assert (torch.get_float32_matmul_precision() == "highest") == exact
    assert torch.backends.cudnn.allow_tf32 == (not exact)


def test_no_memory_left(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, pipeline, "memory_step=2")
    assert "Tried to allocate 2 GiB" in message
    assert "raise stages.train_toy.train.accumulate above 1" in message
    assert "lower stages.train_toy.train.batch_size below 4" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_no_cuda(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "torch sees no CUDA device" in refused(capsys, pipeline, "train.device=cuda")


def test_epochs(pipeline: Path) -> None:
    """22 clips make 5 updates of 4 an epoch, however they are divided."""
    for accumulate in (1, 2, 4):
        folder = run_here(
            pipeline,
            *("train.steps=null", "train.epochs=2", "train.evaluate_every=null"),
            f"train.accumulate={accumulate}",
            fresh=True,
        )
        lines = curve(folder)
        assert len(lines) == 10
        assert [line["step"] for line in lines if "val_loss" in line] == [5, 10]


def test_best_is_kept_and_published(pipeline: Path) -> None:
    """A learning rate that ruins the model: the first evaluation stays the best."""
    folder = run_here(
        pipeline,
        *("train.keep_best=val_loss", "train.patience=2", "train.steps=50", "lr=5.0"),
        "train.evaluate_every=1",
    )
    losses = {line["step"]: line["val_loss"] for line in curve(folder)}
    best = min(losses, key=losses.__getitem__)
    assert max(losses) == best + 2  # two evaluations without a better one, then the end
    assert set(checkpoints(folder / "checkpoints")) == {best, best + 2}
    metadata, product = load_weights(folder)
    assert (metadata["step"], metadata["metrics"]) == (best, {"val_loss": losses[best]})
    kept = weights(folder / f"checkpoints/step-{best:08d}/model.safetensors")
    assert all(torch.equal(product[name], kept[name]) for name in kept)
    before = curve(folder)
    run_here(
        pipeline,
        *("train.keep_best=val_loss", "train.patience=2", "train.steps=50", "lr=5.0"),
        "train.evaluate_every=1",
    )
    assert curve(folder) == before  # it had stopped for good


def test_bf16_is_near_fp32(pipeline: Path) -> None:
    plain = ("noise=0", "dropout=0", "train.steps=4")
    exact = curve(run_here(pipeline, *plain))
    rounded = curve(run_here(pipeline, *plain, "train.precision=bf16", fresh=True))
    losses = [[line["loss"] for line in lines] for lines in (exact, rounded)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(w.dtype != torch.bfloat16 for w in weights(folder_of(pipeline)).values())


def test_autocast_keeps_sound_as_it_is() -> None:
    """bfloat16 has 8 bits: a front-end inside the model would hear noise."""
    sound = torch.linspace(-1, 1, 1000)
    precision = Autocast("bf16-mixed", "cpu")
    assert precision.convert_input(sound) is sound
    with precision.forward_context():
        assert torch.nn.functional.linear(sound, sound[None]).dtype == torch.bfloat16


@pytest.mark.slow
def test_compiled_learns_the_same(pipeline: Path) -> None:
    # Without batch norm, before which a bias has no gradient but rounding, which Adam blows up.
    plain = ("batch_norm=false", "noise=0", "dropout=0", "train.steps=2", "train.ema_decay=0.5")
    folder = run_here(pipeline, *plain)
    eager = curve(folder)
    shutil.rmtree(folder)
    # In a process of its own: other tests leave modules behind that the compiler stumbles over.
    done = run_program(pipeline, *plain, "train.compile=true")
    assert done.returncode == 0, done.stderr
    compiled = curve(folder)
    for left, right in zip(eager, compiled, strict=True):
        assert left == pytest.approx(right, rel=1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """Nothing of its own."""

    train: TrainSettings = section(TrainSettings, "Length.")


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 2))

    def forward(self) -> Tensor:
        return self.w


def test_update_clips(tmp_path: Path) -> None:
    """The gradient (3, 4) has norm 5; clipped at 1, plain gradient descent moves by (0.6, 0.8)."""
    path = tmp_path / "line.yaml"
    path.write_text(f"""
output: {tmp_path / "run"}
stages: {{train_line: {{train: {{steps: 1, batch_size: 1, device: cpu, clip_norm: 1.0}}}}}}
""")
    seen: list[Tensor] = []

    def train(run: Run[LineSettings]) -> None:
        rows = run.rows(2)
        model = run.model("model", Line())
        optimizer = run.optimizer("sgd", torch.optim.SGD(model.parameters(), lr=9.0))
        for _ in run.steps(rows):
            run.backward(model, rows, lambda _: (model() * torch.tensor([3.0, 4.0])).sum())
            seen.append(run.update(optimizer, lr=1.0))
            seen.append(model.w.detach().clone())

    launch("train_line", LineSettings, train, [str(path)])
    torch.testing.assert_close(seen[0], torch.tensor(5.0))
    torch.testing.assert_close(seen[1], torch.tensor([[-0.6, -0.8]]))


def test_rows_of_two_names_are_drawn_independently(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(f"""
output: {tmp_path / "run"}
stages: {{train_line: {{train: {{steps: 1, batch_size: 64, device: cpu}}}}}}
""")
    orders: dict[str, list[int]] = {}

    def train(run: Run[LineSettings]) -> None:
        for name in ("one", "two"):
            drawn = next(run.rows(64, name))
            orders[name] = drawn.tolist()
        model = run.model("model", Line())
        optimizer = run.optimizer("sgd", torch.optim.SGD(model.parameters(), lr=1.0))
        for _ in run.steps(rows := run.rows(64, "three")):
            run.backward(model, rows, lambda _: model().sum())
            run.update(optimizer)

    launch("train_line", LineSettings, train, [str(path)])
    assert sorted(orders["one"]) == sorted(orders["two"]) == list(range(64))
    assert orders["one"] != orders["two"]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda run: run.model("model", Line()), "two models of train_line are called 'model'"),
        (lambda run: run.model("a.ema", Line()), "a model is a file: letters, digits"),
        (lambda run: run.model("../a", Line()), "a model is a file: letters, digits"),
        (lambda run: run.optimizer("sgd", None), "two optimizers of train_line are called 'sgd'"),
        (lambda run: run.state("best", None), "two states of train_line are called 'best'"),
        (lambda run: run.rows(2), "two states of train_line are called 'rows'"),
        (
            lambda run: (run.batches(), run.batches()),
            "two states of train_line are called 'batches train'",
        ),
        (lambda run: run.backward(Line(), iter([0]), sum), "models as run.model returned them"),
        (lambda run: run.update(None), "an optimiser that run.optimizer was not given"),
    ],
)
def test_a_trainer_s_mistakes(mistake: Callable, words: str, shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(f"""
output: {tmp_path / "run"}
stages: {{train_line: {{train: {{steps: 1, batch_size: 1, device: cpu, shards: {shards}}}}}}}
""")

    def train(run: Run[LineSettings]) -> None:
        run.rows(2)
        model = run.model("model", Line())
        run.optimizer("sgd", torch.optim.SGD(model.parameters(), lr=1.0))
        mistake(run)

    with pytest.raises(ValueError, match=words):
        launch("train_line", LineSettings, train, [str(path)])


def test_what_comes_after_the_first_step_is_in_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(f"""
output: {tmp_path / "run"}
stages: {{train_line: {{train: {{steps: 1, batch_size: 1, device: cpu}}}}}}
""")

    def train(run: Run[LineSettings]) -> None:
        for _ in run.steps(run.rows(2)):
            run.rows(2, "late")

    with pytest.raises(ValueError, match="'late' comes after the first step"):
        launch("train_line", LineSettings, train, [str(path)])
