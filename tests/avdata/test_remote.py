"""Manifests, media and shards behind fsspec: a real S3-compatible server on 127.0.0.1."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from avdata.config import Pipeline
from avdata.errors import ShardError
from avdata.loader import Loader
from avdata.run.executors import executor
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.shards.verify import verify
from avdata.store import Store
from avdata.strict import build
from tests.media_factory import make_video, noise_track
from tests.repacked import SETTINGS, Read, copy_parts, count
from tests.shard_factory import pack

STEPS = {
    "trim": {"window_s": 1, "frames_per_clip": 2, "width_px": 64, "height_px": 48},
    "tag": {"taggers": ["loudness"]},
    "shard": {"max_clips": 2},
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    moto_server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem().mkdir("s3://avdata")
        yield "s3://avdata"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def settings(manifest: str, output: str) -> Pipeline:
    return build(Pipeline, {"manifest": manifest, "output": output, "steps": STEPS}, "test")


def go(pipeline: Pipeline, workers: int = 0) -> None:
    with executor(workers=workers) as where:
        run(pipeline, where, Progress(Console(file=io.StringIO())))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_on_s3_gives_the_bytes_of_a_local_one(
    bucket: str, tmp_path: Path, workers: int
) -> None:
    lines = ["url,start_ms,end_ms,key"]
    for i in range(3):
        video = tmp_path / f"v{i}.mp4"
        sound = noise_track(2, 16000, seed=i)
        make_video(video, seconds=2, fps=10, width_px=64, height_px=48, sound=sound)
        lines += [f"{video},0,1000,a{i}", f"{video},1000,2000,b{i}"]
    text = "\n".join(lines) + "\n"
    (tmp_path / "m.csv").write_text(text)
    remote = Store(f"{bucket}/w{workers}")
    remote.write_bytes("m.csv", text.encode())

    go(settings(str(tmp_path / "m.csv"), str(tmp_path / "run")))
    go(settings(f"{remote.root}/m.csv", f"{remote.root}/run"), workers)

    local, far = Store(str(tmp_path / "run")), Store(f"{remote.root}/run")
    names = [n for n in local.list("shards") if n.endswith((".tar", ".parquet", "dataset.json"))]
    assert len(names) >= 4
    for name in names:
        assert far.read_bytes(f"shards/{name}") == local.read_bytes(f"shards/{name}"), name
    assert far.exists("report.html")

    # The shards are used where they are.
    assert verify(far.root) == []
    keys = [key for batch in Loader(far.root, "train", batch_size=2) for key in batch.keys]
    near = [key for batch in Loader(local.root, "train", batch_size=2) for key in batch.keys]
    assert keys == near
    assert keys

    # A second run finds everything done and downloads nothing.
    before = far.list("work/trim")
    go(settings(f"{remote.root}/m.csv", f"{remote.root}/run"), workers)
    assert far.list("work/trim") == before


def test_an_open_loader_on_s3_never_mixes_up_clips(bucket: str, tmp_path: Path) -> None:
    store = Store(f"{bucket}/repacked")
    tables = copy_parts(Store(str(tmp_path)), store)
    pack(store, tables[:1], SETTINGS)
    verify(store.root)  # fills the listing that the filesystem remembers
    loader = Loader(store.root, batch_size=32, workers=0)
    assert len(list(loader)) == 2
    # by another process, as in life: nothing tells this one that a listing has changed
    code = (
        "from avdata.store import Store; from tests.repacked import AGAIN; "
        f"AGAIN['another seed'](Store({store.root!r}), {tables!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    with pytest.raises(ShardError, match="packed again since this folder was opened"):
        next(iter(loader))
    anew = Loader(store.root, batch_size=32, workers=0)
    samples = (Read(*one) for b in anew for one in zip(b.keys, b.image, b.audio, strict=True))
    assert count(range(64), lambda _: next(samples)) == (64, 0)
    assert verify(store.root) == []
