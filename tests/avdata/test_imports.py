"""What the processes of a run load: never what training alone needs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media_factory import make_video, noise_track

OF_TRAINING = {"torch", "tensorflow", "transformers", "webdataset", "lightning_fabric"}
SETTINGS = (
    *("steps.trim.frames_per_clip=4", "steps.trim.width_px=48", "steps.trim.height_px=32"),
    "steps.tag.taggers=[yamnet,loudness,silence,stillness,scenes,brightness]",
    "steps.select.scorer=av_sync",
)


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
@pytest.mark.parametrize(
    "workers",
    [None, pytest.param("0", marks=pytest.mark.slow), pytest.param("1", marks=pytest.mark.slow)],
)
def test_no_process_of_a_run_loads_torch(tmp_path: Path, workers: str | None) -> None:
    """Python lists what it imports, in every process that the run starts."""
    sound = noise_track(2, 16000)
    make_video(tmp_path / "a.mp4", seconds=2, fps=10, width_px=48, height_px=32, sound=sound)
    (tmp_path / "m.csv").write_text("url,start_ms,end_ms\na.mp4,0,1000\na.mp4,1000,2000\n")
    command = [sys.executable, "-m", "avdata.cli", "shard", str(tmp_path / "m.csv")]
    command += ["-o", str(tmp_path / "run"), *(f"--set={setting}" for setting in SETTINGS)]
    command += ["--workers", workers] if workers else []
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loaded = set(re.findall(r"^import time:.*\| +(\w+)", ended.stderr, re.MULTILINE))
    assert {"av", "simplejpeg", "pyarrow", "ai_edge_litert", "_avdata_webdataset"} <= loaded
    assert not loaded & OF_TRAINING
    assert list((tmp_path / "run" / "shards").glob("*.tar"))


def test_webdataset_itself_stays_whole_beside_its_writer() -> None:
    """Who trains with webdataset in the same process gets torch's datasets, not stand-ins."""
    program = (
        "from avdata.shards.tar_writer import tar_writer; writer = tar_writer(); "
        "import webdataset; from torch.utils.data import IterableDataset; "
        "assert issubclass(webdataset.WebDataset, IterableDataset); "
        "assert writer.__name__ == webdataset.TarWriter.__name__"
    )
    pytest.importorskip("torch")
    subprocess.run([sys.executable, "-c", program], check=True)
