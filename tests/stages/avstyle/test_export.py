"""What is exported computes what torch does, at sizes it was not traced with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from avdata.audio.spec import AVSTYLE, AudioSpec
from avdata.audio.spectrograms import features as spectrogram_of
from stages import generate
from stages.avstyle import export as export_module
from stages.avstyle.export import ExportError, export
from stages.generation.inputs import Sound
from tests.stages.avstyle.tiny_restyler import DIM, make_run, restyler
from tests.stages.tiny_scenes import RATE_HZ, tone


@pytest.mark.parametrize("enters", ["concat", "film"])
def test_the_halves_together_restyle_as_torch_does(tmp_path: Path, enters: str) -> None:
    """From picture and sound alone, through numpy's front-end."""
    model = restyler(tmp_path, enters=enters)
    apart = export(model, tmp_path / "onnx")
    assert apart.keys() == {"content", "drawing", "sound_encoder"}
    assert max(apart.values()) < 1e-4
    run = {
        name: onnxruntime.InferenceSession(
            tmp_path / "onnx" / f"{name}.onnx", providers=["CPUExecutionProvider"]
        )
        for name in apart
    }
    rng = np.random.default_rng(0)
    for batch, height, width in ((1, 20, 44), (3, 64, 32)):
        pictures = rng.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)
        waves = [tone(300 * (n + 1), 3.0) for n in range(batch)]
        seen = np.stack([spectrogram_of(wave, AVSTYLE) for wave in waves])
        (content,) = run["content"].run(None, {"picture": pictures})
        (heard,) = run["sound_encoder"].run(None, {"spectrogram": seen})
        assert content.shape == (batch, 16, height // 4, width // 4)
        assert heard.shape == (batch, DIM)
        (drawn,) = run["drawing"].run(None, {"features": content, "heard": heard})
        style = model.style([Sound("a", wave, RATE_HZ) for wave in waves])
        with torch.no_grad():
            expected = model.generator(torch.from_numpy(pictures), style).numpy()
        np.testing.assert_allclose(drawn, expected, atol=1e-4)


def test_files_say_what_they_are(tmp_path: Path) -> None:
    model = restyler(tmp_path)
    export(model, tmp_path / "onnx")
    for name in ("content", "drawing", "sound_encoder"):
        file = onnx.load(tmp_path / "onnx" / f"{name}.onnx")
        onnx.checker.check_model(file)
        assert [own.version for own in file.opset_import if not own.domain] == [17]
        (facts,) = [json.loads(p.value) for p in file.metadata_props if p.key == "avdata"]
        assert (facts["part"], facts["resolution_px"]) == (name, 32)
        assert AudioSpec.from_json(json.dumps(facts["audio"])) == AVSTYLE
        assert facts["sources"] == {k: dict(v) for k, v in model.sources.items()}
        named = [d.dim_param for d in file.graph.input[0].type.tensor_type.shape.dim]
        assert named[0] == "B"


def test_a_file_that_differs_is_refused_and_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = restyler(tmp_path)
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"content\.onnx differs from torch .* by"):
        export(model, tmp_path / "onnx")
    assert not list((tmp_path / "onnx").glob("*.onnx"))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    generate.main(["export", "--run", str(run), "-o", str(tmp_path / "out"), "--device", "cpu"])
    assert "sound_encoder.onnx: opset 17, differs from torch by at most" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("*.onnx"))) == 3
