"""One step of train_sound2scene at the paper's sizes, against the same with the frozen image
encoder in the loop and in eager fp32.

    python -m benchmarks.bench_sound2scene [--batch 64] [--rounds 3] [--steps 20]

Audio encoder: ResNet-18 on [B, 1, 257, 1004], 10 s of sound each; image encoder: ResNet-50 on
[B, 3, 224, 224]. A step goes from 16-bit sound in memory to updated weights. The variants take
turns in one process and their best rounds are compared. Then the real loader feeds the fastest
variant from FLAC shards, and the share of time spent waiting for it is printed.
Aim on a GPU: at least 3 times the peer, waiting under 5 %.

On a CPU the batch is 4 by default, bf16 and compile are left out, and time is that of one thread,
so that what else runs on the machine does not count. There the peer cannot be beaten by much: the
audio encoder's own pass and gradient are nearly nine tenths of all arithmetic.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from avdata.audio.spec import SOUND2SCENE
from benchmarks.bench_loader import make_clips, pack
from benchmarks.clock import in_turns, waited
from stages.engine.batches import Batches
from stages.engine.optim import adam
from stages.losses.info_nce import euclidean_info_nce
from stages.models import build
from stages.nn.frontend import Frontend
from stages.pairs.clips import PairReader, Pairs, PairSource, read_clips

Step = Callable[[Tensor, Tensor], None]  # sound [B, n] int16; features [B, 2048], or pictures


def make_step(device: torch.device, *, live: bool, fast: bool) -> Step:
    """Return a training step; live: encode pictures in it; fast: channels last, bf16, compiled."""
    torch.manual_seed(0)
    encoder = build("audio_encoder").to(device)
    frontend = Frontend(SOUND2SCENE).to(device)
    model: nn.Module = encoder
    precision: Callable[[], object] = nullcontext
    if fast:
        encoder = encoder.to(memory_format=torch.channels_last)
        if device.type == "cuda":
            model = torch.compile(encoder)
            precision = partial(torch.autocast, "cuda", torch.bfloat16)
    optimizer = adam(encoder, lr=1e-3, weight_decay=1e-5)
    image_encoder = build("image_encoder").to(device).eval() if live else None

    def step(sound: Tensor, target: Tensor) -> None:
        if image_encoder is not None:
            with torch.no_grad():
                target = image_encoder(target)
        with precision():
            z_A = model(frontend(sound))
        euclidean_info_nce(z_A, target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(device: torch.device, batch: int, rounds: int, steps: int) -> Step:
    """Print each variant's time per step and its ratio to the peer; return the fast step."""
    sound = torch.randint(-9000, 9000, (batch, SOUND2SCENE.n_samples), dtype=torch.int16)
    sound = sound.to(device)
    pictures = torch.randn(batch, 3, 224, 224, device=device)
    features = torch.rand(batch, 2048, device=device)
    fast = make_step(device, live=False, fast=True)
    variants: dict[str, Callable[[], None]] = {
        "peer: image encoder in the loop, eager fp32": partial(
            make_step(device, live=True, fast=False), sound, pictures
        ),
        "cached features, eager fp32": partial(
            make_step(device, live=False, fast=False), sound, features
        ),
        "ours: cached features, fast": partial(fast, sound, features),
    }
    in_turns(variants, device, rounds=rounds, steps=steps, batch=batch)
    return fast


def data_wait(device: torch.device, step: Step, batch: int, steps: int, workers: int) -> None:
    """Print how much of the time the fast step waits for sound from FLAC shards."""
    with tempfile.TemporaryDirectory() as folder:
        pack(Path(folder), make_clips(max(4 * batch, 16), "flac"), "flac")
        reader = PairReader(read_clips(folder, "train"), SOUND2SCENE.n_samples, seed=0)
        features = torch.rand(len(reader.clips), 2048)

        def convert(pairs: Pairs) -> tuple[Tensor, Tensor]:
            sound = torch.from_numpy(pairs.sound)
            if device.type == "cuda":
                sound = sound.pin_memory()
            return sound.to(device, non_blocking=True), features[pairs.frame_rows].to(device)

        source = PairSource(reader, batch_size=batch, seed=0, workers=workers)
        batches = Batches(source, convert)
        share = waited(batches, lambda batch: step(*batch), device, steps)
        print(f"waiting for the loader with {workers} threads: {100 * share:.1f} % of the time")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--batch", type=int, default=64 if cuda else 4)
    parser.add_argument("--rounds", type=int, default=3 if cuda else 2)
    parser.add_argument("--steps", type=int, default=20 if cuda else 1)
    parser.add_argument("--workers", type=int, default=12 if cuda else 1)
    options = parser.parse_args()
    device = torch.device("cuda" if cuda else "cpu")
    if not cuda:
        torch.set_num_threads(1)
    print(f"on {torch.cuda.get_device_name() if cuda else 'a CPU, one thread'}")
    step = compare(device, options.batch, options.rounds, options.steps)
    data_wait(device, step, options.batch, max(3, options.steps), options.workers)


if __name__ == "__main__":
    main()
