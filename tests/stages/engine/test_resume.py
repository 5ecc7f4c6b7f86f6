"""A training that was killed and goes on learns what an undisturbed one learns, bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from avdata.store import Store
from stages.engine import checkpoint
from stages.engine.launch import launch
from stages.engine.run import Run
from tests.stages.toy_runs import curve, folder_of, run_here, run_program, same, weights
from tests.stages.toy_trainer import Settings

EMA = ("train.ema_decay=0.9", "train.accumulate=2")


@pytest.fixture
def undisturbed(pipeline: Path, tmp_path: Path) -> Path:
    """The folder of a whole training, made elsewhere."""
    run_here(pipeline, *EMA, f"output={tmp_path / 'whole'}")
    return tmp_path / "whole" / "stages" / "train_toy"


def test_killed_training_goes_on_exactly(pipeline: Path, undisturbed: Path) -> None:
    """Step 6 of 8 is killed after the checkpoint of step 3 and the log of step 5; 5 steps make an
    epoch, so the resumed run crosses one."""
    killed = run_program(pipeline, *EMA, killed_at=6)
    assert killed.returncode == -signal.SIGKILL
    folder = folder_of(pipeline)
    assert [line["step"] for line in curve(folder)] == [1, 2, 3, 4, 5]
    assert list(checkpoint.checkpoints(folder / "checkpoints")) == [3]
    run_here(pipeline, *EMA)
    assert curve(folder) == curve(undisturbed)
    for name in ("model.safetensors", "model.ema.safetensors"):
        last = Path("checkpoints/step-00000008") / name
        assert same(weights(folder / last), weights(undisturbed / last))
    states = [checkpoint.read_state(f / "checkpoints/step-00000008") for f in (folder, undisturbed)]
    assert same(*states)


def test_sigterm_ends_it_with_a_checkpoint(pipeline: Path, undisturbed: Path) -> None:
    """Sent during step 5, between the checkpoints of steps 3 and 6."""
    ended = run_program(pipeline, *EMA, terminated_at=5)
    assert ended.returncode == 143
    assert "ended by SIGTERM after step 5, which is saved; the same command goes on" in ended.stderr
    assert "Traceback" not in ended.stderr
    folder = folder_of(pipeline)
    assert list(checkpoint.checkpoints(folder / "checkpoints")) == [5]
    assert not (folder / "model.safetensors").exists()
    run_here(pipeline, *EMA)
    assert curve(folder) == curve(undisturbed)
    assert same(weights(folder), weights(undisturbed))


def test_sigterm_at_the_last_step_changes_nothing(pipeline: Path) -> None:
    done = run_program(pipeline, "train.steps=2", terminated_at=2)
    assert done.returncode == 0, done.stderr
    assert (folder_of(pipeline) / "model.safetensors").exists()


def test_sigterm_before_the_first_step_ends_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text(f"output: {tmp_path / 'run'}\n")
    before = signal.getsignal(signal.SIGTERM)

    def train(run: Run[Settings]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    with pytest.raises(SystemExit, match="143"):
        launch("train_toy", Settings, train, [str(path)])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_new_setting_with_a_default_resumes_older_trainings(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings that the checkpoint does not know: at their defaults, and at other values."""
    folder = run_here(pipeline, "train.steps=1")
    path = folder / "checkpoints/step-00000001/state.pt"
    state = torch.load(path, weights_only=True)
    del state["settings"]["noise"], state["settings"]["train"]["clip_norm"]
    torch.save(state, path)
    with pytest.raises(SystemExit, match="2"):
        run_here(pipeline, "train.steps=2", "noise=0.3", "train.clip_norm=2.0")
    assert "(noise: 0.1 -> 0.3; train.clip_norm: None -> 2.0)" in capsys.readouterr().err
    run_here(pipeline, "train.steps=2")
    assert [line["step"] for line in curve(folder)] == [1, 2]


def test_longer_training_continues(pipeline: Path) -> None:
    folder = run_here(pipeline, "train.steps=3")
    product = weights(folder)
    run_here(pipeline, "train.steps=5", "train.workers=0", "train.log_every=2")
    assert [line["step"] for line in curve(folder)] == [1, 2, 3, 4, 5]
    assert not same(weights(folder), product)


def test_complete_training_is_left_alone(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_here(pipeline, "train.steps=2")
    before = (folder / "metrics.jsonl").read_bytes()
    run_here(pipeline, "train.steps=2")
    assert "complete at step 2" in capsys.readouterr().out
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_fresh_forgets(pipeline: Path) -> None:
    run_here(pipeline, "train.steps=2", "lr=0.1")
    folder = run_here(pipeline, "train.steps=1", "lr=0.2", fresh=True)
    assert [line["lr"] for line in curve(folder)] == [0.1]  # half of the warm-up to 0.2


def test_other_settings_are_refused(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_here(pipeline, "train.steps=1")
    with pytest.raises(SystemExit, match="2"):
        run_here(pipeline, "lr=0.5", "train.batch_size=2")
    message = capsys.readouterr().err
    assert "lr: 0.01 -> 0.5; train.batch_size: 4 -> 2" in message
    assert "--fresh" in message
    kept = (folder_of(pipeline) / "settings.yaml").read_text()
    assert "lr: 0.01\n" in kept  # what was trained, not what was refused


@pytest.mark.parametrize("file", ["state.pt", "model.safetensors"])
def test_truncated_checkpoint_is_refused(
    file: str, pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_here(pipeline, "train.steps=1")
    path = folder / "checkpoints/step-00000001" / file
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SystemExit, match="2"):
        run_here(pipeline, "train.steps=2")
    message = capsys.readouterr().err
    assert str(path) in message
    assert "damaged" in message


def test_unfinished_checkpoint_is_never_seen(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the last byte and the rename."""
    folder = folder_of(pipeline)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "rename", die)
        patch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)  # as SIGKILL leaves it
        with pytest.raises(SystemExit, match="130"):
            run_here(pipeline, "train.steps=1")
    left = list((folder / "checkpoints").iterdir())
    assert [path.name.startswith(".tmp-") for path in left] == [True]
    assert (left[0] / "state.pt").exists()
    assert checkpoint.checkpoints(folder / "checkpoints") == {}
    run_here(pipeline, "train.steps=1")
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-00000001"]


def test_two_trainings_in_one_folder(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(str(folder_of(pipeline))).lock(), pytest.raises(SystemExit, match="2"):
        run_here(pipeline)
    assert "another avdata run works in" in capsys.readouterr().err
