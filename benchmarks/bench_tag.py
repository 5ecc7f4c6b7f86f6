"""CPU time of tag against the time of the YAMNet interpreter alone on the same sound.

    python -m benchmarks.bench_tag [--model FILE] [--clips 60] [--seconds 10] [--rounds 5]

Aim: tagging the stored sound (FLAC decoded, windows cut, scores averaged) costs at most 1.2 times
the bare interpreter on windows already in memory. The other taggers are listed one by one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from avdata import audio, frames, weights
from avdata.clip import Clip, Frame, Media
from avdata.config import TagSettings, YamnetSettings
from avdata.media_tar import MediaTar
from avdata.steps.base import PartContext
from avdata.steps.tag import TagStep
from avdata.store import Store
from avdata.taggers import TAGGERS

RATE_HZ = 16000


def make_clips(folder: Path, n_clips: int, seconds: float) -> list[Clip]:
    """Write FLAC sound (decaying noise bursts) and 8 frames of 512 x 512 per clip."""
    tar = MediaTar(folder / "part.tar")
    clips = []
    for i in range(n_clips):
        rng = np.random.default_rng(i)
        n = round(seconds * RATE_HZ)
        envelope = np.exp(-4 * (np.arange(n) % RATE_HZ) / RATE_HZ)
        pcm = np.clip(rng.normal(0, 5000, n) * envelope, -32768, 32767).astype(np.int16)
        sound = tar.add(f"{i}.flac", audio.encode(pcm, RATE_HZ, "flac"))
        found = []
        for t in range(8):
            picture = np.kron(rng.integers(0, 256, (64, 64, 3)), np.ones((8, 8, 1)))
            jpeg = tar.add(f"{i}.{t}.jpg", frames.encode_jpeg(picture.astype(np.uint8), 92))
            found.append(Frame(t * seconds / 8, jpeg.offset, jpeg.bytes))
        media = Media("part.tar", sound, "flac", RATE_HZ, n, 512, 512, tuple(found))
        clips.append(Clip(key=f"c{i}", url=f"{i}.mp4", source_id=f"{i}", media=media))
    tar.close()
    return clips


def cpu_s(work: Callable[[], object], rounds: int) -> float:
    """Return the smallest CPU time of several rounds, after one to warm up."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="the .tflite; default: the weights cache")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    from ai_edge_litert.interpreter import Interpreter

    model = weights.path("yamnet", options.model)
    settings = TagSettings(yamnet=YamnetSettings(weights=str(model)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder, options.clips, options.seconds)
        part = PartContext(Store(name), "none.tar", folder, seed=0)

        interpreter = Interpreter(model_path=str(model), num_threads=1)
        interpreter.allocate_tensors()
        n_windows = 1 + max(0, -(-(round(options.seconds * RATE_HZ) - 15600) // 7680))
        windows = np.random.default_rng(0).normal(0, 0.1, (n_windows, 15600)).astype(np.float32)
        source = interpreter.get_input_details()[0]["index"]

        def bare() -> None:
            for _ in clips:
                for window in windows:
                    interpreter.set_tensor(source, window)
                    interpreter.invoke()

        def tag(*taggers: str) -> Callable[[], object]:
            step = TagStep(replace(settings, taggers=taggers))
            return lambda: step.run(clips, part)

        print(f"{options.clips} clips of {options.seconds:g} s, 8 frames; CPU ms per clip")
        per_clip = 1000 / options.clips
        base = cpu_s(bare, options.rounds) * per_clip
        print(f"{'interpreter alone':24}{base:8.2f}")
        for label, taggers in [
            *((f"tag: {name}", (name,)) for name in TAGGERS),
            ("tag: all", tuple(TAGGERS)),
        ]:
            spent = cpu_s(tag(*taggers), options.rounds) * per_clip
            print(f"{label:24}{spent:8.2f}{spent / base:8.2f} x")


if __name__ == "__main__":
    main()
