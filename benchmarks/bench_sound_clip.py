"""One step of train_sound_clip at the paper's sizes, against the same with CLIP's towers in it.

    python -m benchmarks.bench_sound_clip [--batch 384] [--rounds 3] [--steps 5] [--arch swin_t]

Sound encoder: Swin-T on 224 × 224, of 10 s at 44.1 kHz, each heard twice (a and â); text-image
model: a CLIP of the sizes of ViT-B/32, random, as only its time counts. A step goes from 16-bit
sound in memory to updated weights; the peer's also encodes each clip's text, its picture and its
weakly paired picture. The variants take turns and their best rounds are compared. Then the reader
of the trainer feeds the step from FLAC shards, and the share of time spent waiting is printed.
Aim: the towers cost nothing, waiting under 5 %.

On a CPU the batch is 2 by default, and time is that of one thread, so that what else runs on the
machine does not count.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.audio.spec import SOUND_GUIDED
from benchmarks.bench_loader import make_clips, pack
from benchmarks.clock import in_turns, waited
from stages.engine import torchaudio_guard
from stages.engine.batches import Batches
from stages.engine.optim import adam
from stages.nn.frontend import Frontend
from stages.pairs.clips import PairReader, PairSource, read_clips
from stages.sound_guided.objective import Features, Scales, Terms, sound_clip_loss
from stages.sound_guided.sound_encoder import SoundEncoder
from stages.sound_guided.sound_pairs import Drawn, SoundReader
from stages.sound_guided.weak_pairs import WeakPairs
from stages.train_sound_clip import Hearing, Settings

DIM, TEXTS = 512, 64
Step = Callable[[Tensor, Tensor, Tensor, Tensor], None]  # sound int16; text, image, weak [B, D]


def make_step(device: torch.device, arch: Any, *, fast: bool) -> Step:
    """Return a training step; fast: channels last, and on a GPU bf16."""
    torch.manual_seed(0)
    settings = Settings(arch=arch)
    encoder = SoundEncoder(arch=arch, dim=DIM).to(device)
    scales = Scales(Terms()).to(device)
    hear = Hearing(settings, Frontend(SOUND_GUIDED).to(device))
    generator = torch.Generator(device).manual_seed(0)
    precision: Callable[[], Any] = nullcontext
    if fast:
        encoder = encoder.to(memory_format=torch.channels_last)
        if device.type == "cuda":
            precision = partial(torch.autocast, "cuda", torch.bfloat16)
    optimizer = adam(torch.nn.ModuleList([encoder, scales]), lr=1e-3)

    def step(sound: Tensor, text: Tensor, image: Tensor, weak: Tensor) -> None:
        with precision():
            a, other = encoder(hear(sound, generator)).chunk(2)
        labels = torch.zeros(len(a), 1, device=device)
        values = sound_clip_loss(Features(a, other, text, image, weak, labels), scales(), Terms())
        values["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_towers(device: torch.device) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """Return from token numbers [B, 77] and pictures [2 B, 3, 224, 224] to features, by ViT-B/32.

    Those of texts, of pictures and of weakly paired pictures, [B, 512] each.
    """
    torchaudio_guard.install()
    from transformers import CLIPConfig, CLIPModel

    model = CLIPModel(CLIPConfig()).eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def towers(tokens: Tensor, pictures: Tensor) -> list[Tensor]:
        text = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
        seen = model.visual_projection(model.vision_model(pixel_values=pictures).pooler_output)
        return [F.normalize(features, dim=1) for features in (text, *seen.chunk(2))]

    return towers


def compare(device: torch.device, options: argparse.Namespace) -> Step:
    """Print each variant's time per step and its ratio to the peer; return the fast step."""
    batch: int = options.batch
    sound = torch.randint(-9000, 9000, (batch, SOUND_GUIDED.n_samples), dtype=torch.int16)
    sound = sound.to(device)
    known = [F.normalize(torch.randn(batch, DIM, device=device), dim=1) for _ in range(3)]
    tokens = torch.randint(1, 49_000, (batch, 77), device=device)
    pictures = torch.randn(2 * batch, 3, 224, 224, device=device)
    towers = make_towers(device)
    plain, fast = (make_step(device, options.arch, fast=fast) for fast in (False, True))
    variants: dict[str, Callable[[], None]] = {
        "peer: CLIP's towers in the step, eager fp32": lambda: plain(
            sound, *towers(tokens, pictures)
        ),
        "cached features, eager fp32": partial(plain, sound, *known),
        "ours: cached features, fast": partial(fast, sound, *known),
    }
    in_turns(variants, device, rounds=options.rounds, steps=options.steps, batch=batch)
    return fast


def data_wait(device: torch.device, step: Step, options: argparse.Namespace) -> None:
    """Print how much of the time the step waits for sounds from FLAC shards."""
    rate_hz, batch = SOUND_GUIDED.sample_rate_hz, options.batch
    with tempfile.TemporaryDirectory() as folder:
        pack(Path(folder), make_clips(4 * batch, "flac", rate_hz), "flac", rate_hz)
        clips = read_clips(folder, "train")
        reader = SoundReader(
            PairReader(clips, SOUND_GUIDED.n_samples, 0, short_audio="pad"),
            WeakPairs(clips.labels),
            {"rain": range(TEXTS)},
            {"rain": 0},
        )
        table = F.normalize(torch.randn(max(TEXTS, len(clips)), DIM), dim=1)

        def convert(drawn: Drawn) -> list[Tensor]:
            rows = (drawn.text_rows, drawn.pairs.frame_rows, drawn.weak_rows)
            host = [torch.from_numpy(drawn.pairs.sound), *(table[row] for row in rows)]
            if device.type == "cuda":
                host = [tensor.pin_memory() for tensor in host]
            return [tensor.to(device, non_blocking=True) for tensor in host]

        source = PairSource(reader, batch_size=batch, seed=0, workers=options.workers)
        batches = Batches(source, convert)
        share = waited(batches, lambda batch: step(*batch), device, options.steps)
        print(f"waiting for the reader with {options.workers} threads: {100 * share:.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--batch", type=int, default=384 if cuda else 2)
    parser.add_argument("--rounds", type=int, default=3 if cuda else 2)
    parser.add_argument("--steps", type=int, default=5 if cuda else 2)
    parser.add_argument("--workers", type=int, default=12 if cuda else 1)
    parser.add_argument("--arch", default="swin_t", choices=("swin_t", "resnet18", "tiny"))
    options = parser.parse_args()
    device = torch.device("cuda" if cuda else "cpu")
    if not cuda:
        torch.set_num_threads(1)
    print(f"on {torch.cuda.get_device_name() if cuda else 'a CPU, one thread'}")
    data_wait(device, compare(device, options), options)


if __name__ == "__main__":
    main()
