"""Samples per core-second of loaders that do the same work on the same clips.

    python benchmarks/bench_loader.py [--clips 320] [--format wav|flac] [--rounds 3]

Work: 512x512 JPEG to a random resized crop of 224x224, flipped or not, uint8; 10 s of 16 kHz sound
as int16; batches of 32. "bare" decodes bytes that already lie in memory and does nothing else; two
workers are compared with two such loops.
Aim: at least 0.9 of bare, and ahead of every peer.

Peers that are not installed are named as such; mosaicml-streaming and litdata need torch. Every
loader runs in a process of its own; CPU is that of the process and its children.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avdata.shards.views import View, view_audio, view_image

BATCH = 32
SOUND_S = 10
RATE_HZ = 16_000
N_SAMPLES = SOUND_S * RATE_HZ
VIEW = View(image_size_px=224, crop_area=(0.5, 1.0), flip=True, audio_s=10.0)
RNG = np.random.default_rng(0)
Epoch = Callable[[], Iterable[int]]  # gives batch sizes

LOADERS = {
    "bare": ("bare", 0),
    "bare, 2 processes": ("bare", 2),
    "avdata, in the caller": ("avdata", 0),
    "avdata, 1 thread": ("avdata", 1),
    "avdata, 2 threads": ("avdata", 2),
    "webdataset, in the caller": ("webdataset", 0),
    "webdataset, 2 processes": ("webdataset", 2),
    "mosaicml-streaming, in the caller": ("mosaic", 0),
    "mosaicml-streaming, 2 processes": ("mosaic", 2),
    "litdata, in the caller": ("litdata", 0),
    "litdata, 2 processes": ("litdata", 2),
}
# The C library gives memory back after each picture of a bare loop and asks for it again, which
# would make it the slowest of all; held on to, it is the floor that it ought to be.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "1073741824"}
NEEDS = {"webdataset": ("webdataset",), "mosaic": ("torch", "streaming")}
NEEDS |= {"litdata": ("torch", "litdata"), "avdata": (), "bare": ()}


def make_clips(
    count: int, audio_format: str, rate_hz: int = RATE_HZ
) -> Iterator[tuple[str, bytes, bytes]]:
    """Give key, JPEG (about 80 kB) and sound of each clip: 1/f noise, as photographs have."""
    from avdata.audio import encode
    from avdata.frames import encode_jpeg

    rng = np.random.default_rng(7)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(1536), np.fft.fftfreq(1536)))
    frequency[0, 0] = 1
    planes = [
        np.fft.ifft2(np.fft.fft2(rng.standard_normal((1536, 1536))) / frequency**1.1).real
        for _ in range(3)
    ]
    texture = np.stack(planes, -1)
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    for number in range(count):
        y, x = rng.integers(0, 1024, 2)
        walk, noise = rng.standard_normal((2, SOUND_S * rate_hz))
        walk = np.cumsum(walk)
        sound = 0.5 * walk / np.abs(walk).max() + 0.02 * noise
        yield (
            f"{number:06d}",
            encode_jpeg(texture[y : y + 512, x : x + 512], 90),
            encode((sound * 32767).clip(-32768, 32767).astype(np.int16), rate_hz, audio_format),
        )


def pack(
    root: Path,
    clips: Iterable[tuple[str, bytes, bytes]],
    audio_format: str,
    rate_hz: int = RATE_HZ,
) -> None:
    """Write the clips as avdata packs them, which is also what webdataset reads."""
    from avdata.clip import Clip, Frame, Media, Selection, Status
    from avdata.config import ShardSettings
    from avdata.media_tar import MediaTar
    from avdata.steps.shard import finish_shards, plan_shards, write_shard
    from avdata.store import Store
    from avdata.tables import write_clips

    store = Store(str(root))
    tar, rows = MediaTar(root / "media.tar"), []
    for key, jpeg, sound in clips:
        audio, frame = tar.add(f"{key}.{audio_format}", sound), tar.add(f"{key}.jpg", jpeg)
        frames = (Frame(0.0, frame.offset, frame.bytes),)
        size = {"sample_rate_hz": rate_hz, "n_samples": SOUND_S * rate_hz, "width_px": 512}
        media = Media("media.tar", audio, audio_format, height_px=512, frames=frames, **size)
        rows.append(
            Clip(
                key=key,
                url=key,
                source_id=key,
                labels=("rain",),
                status=Status.ACCEPTED,
                media=media,
                selection=Selection("mid", (1.0,), (0,)),
            )
        )
    tar.close()
    write_clips(root / "select.parquet", rows)
    settings = ShardSettings(max_clips=100, splits={"train": 1.0})
    plans = plan_shards(store, ["select.parquet"], settings, 0)
    finish_shards(store, plans, [write_shard(store, p, settings) for p in plans], settings)


def decode(jpeg: bytes, sound: bytes) -> tuple[np.ndarray, np.ndarray]:
    image = np.ascontiguousarray(view_image(jpeg, VIEW, RNG))
    return image, view_audio(sound, N_SAMPLES, VIEW, RNG)[0]


def bare(root: Path, audio_format: str, workers: int) -> Epoch:
    clips = list(_members(root, audio_format))

    def decode_some(part: int, parts: int) -> None:
        for jpeg, sound, _ in clips[part::parts]:
            decode(jpeg, sound)

    def epoch() -> list[int]:
        # Two busy cores may share caches and units, so two workers are held against two.
        context = multiprocessing.get_context("fork")
        others = [context.Process(target=decode_some, args=(n, workers)) for n in range(workers)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        if not others:
            decode_some(0, 1)
        return [len(clips)]

    return epoch


def avdata(root: Path, audio_format: str, workers: int) -> Epoch:
    from avdata.loader import Loader

    loader = Loader(root, batch_size=BATCH, view=VIEW, workers=workers)
    return lambda: (len(batch) for batch in loader)


def webdataset(root: Path, audio_format: str, workers: int) -> Epoch:
    import webdataset as wds

    urls = [str(path) for path in sorted((root / "shards").glob("*.tar"))]
    samples = (
        wds.WebDataset(urls, shardshuffle=100, empty_check=False)
        .shuffle(200)
        .to_tuple("jpg", audio_format, "json")
        .map(lambda s: (*decode(s[0], s[1]), json.loads(s[2])["labels"]))
    )
    if importlib.util.find_spec("torch"):
        batches = samples.batched(BATCH, collation_fn=_collate)
        loader = wds.WebLoader(batches, batch_size=None, num_workers=workers)
        return lambda: (len(batch[0]) for batch in loader)
    if workers:
        raise ModuleNotFoundError("torch")
    return lambda: (len(batch[0]) for batch in samples.batched(BATCH, collation_fn=_collate))


def mosaic(root: Path, audio_format: str, workers: int) -> Epoch:
    import streaming
    from torch.utils.data import DataLoader

    folder = root / "mosaic"
    columns = {"jpg": "bytes", "sound": "bytes", "json": "bytes"}
    if not folder.exists():
        with streaming.MDSWriter(out=str(folder), columns=columns, size_limit=1 << 26) as writer:
            for jpeg, sound, about in _members(root, audio_format):
                writer.write({"jpg": jpeg, "sound": sound, "json": about})

    class Clips(streaming.StreamingDataset):
        def __getitem__(self, at: int) -> Any:
            sample = super().__getitem__(at)
            return *decode(sample["jpg"], sample["sound"]), json.loads(sample["json"])["labels"]

    clips = Clips(local=str(folder), shuffle=True, batch_size=BATCH)
    loader = DataLoader(clips, BATCH, num_workers=workers, collate_fn=_collate)
    return lambda: (len(batch[0]) for batch in loader)


def litdata(root: Path, audio_format: str, workers: int) -> Epoch:
    import litdata as lit
    from litdata.streaming.writer import BinaryWriter

    folder = root / "litdata"
    if not folder.exists():
        writer = BinaryWriter(str(folder), chunk_bytes="64MB")
        for number, (jpeg, sound, about) in enumerate(_members(root, audio_format)):
            writer.add_item(number, {"jpg": jpeg, "sound": sound, "json": about})
        writer.done()
        writer.merge()

    class Clips(lit.StreamingDataset):
        def __getitem__(self, at: Any) -> Any:
            sample = super().__getitem__(at)
            return *decode(sample["jpg"], sample["sound"]), json.loads(sample["json"])["labels"]

    clips = Clips(str(folder), shuffle=True)
    loader = lit.StreamingDataLoader(
        clips, batch_size=BATCH, num_workers=workers, collate_fn=_collate
    )
    return lambda: (len(batch[0]) for batch in loader)


def _collate(samples: list[tuple[np.ndarray, np.ndarray, Any]]) -> tuple[Any, Any, list[Any]]:
    """Stack as tensors where there is torch: that is how processes hand batches over cheapest."""
    images, sounds, labels = zip(*samples, strict=True)
    if not importlib.util.find_spec("torch"):
        return np.stack(images), np.stack(sounds), list(labels)
    import torch

    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(sounds)), list(labels)


def _members(root: Path, audio_format: str) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Give each clip's JPEG, sound and JSON."""
    for path in sorted((root / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            found = {member.name: tar.extractfile(member).read() for member in tar}
        for key in sorted(name.split(".")[0] for name in found if name.endswith(".json")):
            yield found[f"{key}.jpg"], found[f"{key}.{audio_format}"], found[f"{key}.json"]


def cpu_s() -> float:
    """Return CPU seconds of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(kind: str, root: Path, audio_format: str, workers: int) -> dict[str, float]:
    """Return samples per second of CPU and of wall, best of three epochs after a first one."""
    epoch = globals()[kind](root, audio_format, workers)
    sum(epoch())
    best = {"core": 0.0, "wall": 0.0}
    for _ in range(3):
        cpu, started = cpu_s(), time.perf_counter()
        samples = sum(epoch())
        best["core"] = max(best["core"], samples / (cpu_s() - cpu))
        best["wall"] = max(best["wall"], samples / (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--format", choices=("wav", "flac"), default="wav")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # kind, workers, folder
    options = parser.parse_args()
    if options.one:
        kind, workers, root = options.one
        print(json.dumps(measure(kind, Path(root), options.format, int(workers))))
        return
    with tempfile.TemporaryDirectory() as folder:
        pack(Path(folder), make_clips(options.clips, options.format), options.format)
        report(Path(folder), options.format, options.rounds)


def report(root: Path, audio_format: str, rounds: int) -> None:
    """Print each loader's best round (noise only ever takes away) and its ratio to bare."""
    best: dict[str, dict[str, float]] = {}
    problems: dict[str, str] = {}
    for _ in range(rounds):
        for name, (kind, workers) in LOADERS.items():
            problems[name] = missing(kind, workers)
            if problems[name]:
                continue
            command = [sys.executable, __file__, "--one", kind, str(workers), str(root)]
            done = subprocess.run(
                [*command, "--format", audio_format],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, **KEEP_MEMORY},
            )
            if done.returncode:
                problems[name] = "failed: " + done.stderr.strip().splitlines()[-1]
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            old = best.get(name, found)
            best[name] = {unit: max(found[unit], old[unit]) for unit in found}
    print(f"{'samples per second of':36}{'core':>8}{'wall':>8}{'core / bare':>13}")
    for name, problem in problems.items():
        if name in best:
            core, wall = best[name]["core"], best[name]["wall"]
            floor = best["bare, 2 processes" if LOADERS[name][1] == 2 else "bare"]["core"]
            print(f"{name:36}{core:8.0f}{wall:8.0f}{core / floor:13.2f}")
        else:
            print(f"{name:36}  {problem}")


def missing(kind: str, workers: int) -> str:
    """Return which modules a loader lacks here, or an empty text."""
    needed = NEEDS[kind]
    if kind == "webdataset" and workers:
        needed = (*needed, "torch")
    absent = [module for module in needed if not importlib.util.find_spec(module)]
    return f"not installed: {', '.join(absent)}" if absent else ""


if __name__ == "__main__":
    main()
