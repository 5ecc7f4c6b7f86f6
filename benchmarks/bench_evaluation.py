"""The evaluation of as many pictures as the papers score: every figure, and features only once.

    python -m benchmarks.bench_evaluation [--pictures 10000 --dim 2048 --classes 50] [--no-peer]

First the figures of one system over features in memory, each with its interval of 1000 resamples,
as seconds and as a ratio to the floor: one product of the features with a [dim, dim] matrix, which
no Fréchet distance can do without. Peers of FID: torch-fidelity's, which has no interval, from
moments that are given; and 1000 full resamples, each a distance of its own, of which one is timed.

Then small sets of pictures pass Inception-v3 (untrained: it takes the same time) for one figure,
for all, and for all once more; counted is how many pictures the network was given.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.engine import torchaudio_guard
from stages.evaluate import PLOTTED
from stages.evaluation import scores
from stages.judges.inception import InceptionFeatures
from stages.metrics.bootstrap import RESAMPLES
from stages.metrics.frechet import Gaussian, Reference, fid_interval, frechet_distance
from stages.nn.encoder import Encoder
from stages.nn.inception import InceptionV3
from stages.pairs.features import FeatureCache
from stages.pairs.samples import Samples

SETS = 4  # of pictures: systems
KS = (1, 5, 10)


def make_features(n: int, dim: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return features [n, dim] like pooled ones: not negative, of a falling spectrum."""
    mixing = rng.normal(size=(dim, dim)) * np.arange(1, dim + 1)[:, None] ** -0.7
    mixed = rng.normal(size=(n, dim)) @ mixing / np.sqrt(dim)
    return np.maximum(mixed + 0.01, 0).astype(np.float32)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(n: int, dim: int, n_classes: int, *, peer: bool) -> None:
    """Print what each figure takes over n features."""
    rng = np.random.default_rng(0)
    real, drawn = make_features(n, dim, rng), make_features(n, dim, rng) * np.float32(1.05)
    reference = Reference.of(real)
    targets = rng.integers(0, n_classes, n)
    similarity = rng.normal(size=(n, n_classes)) + 2 * np.eye(n_classes)[targets]
    classes = [f"class {i}" for i in range(n_classes)]
    names = [classes[i] for i in targets]
    sampling = scores.Sampling([f"video {i}" for i in range(n)], RESAMPLES, 0)

    square, wide = rng.normal(size=(dim, dim)), real.astype(np.float64)
    floor = min(seconds(lambda: wide @ square) for _ in range(3))

    def plot(method: Any) -> Callable[[], object]:
        return lambda: scores.gap_plot(real, drawn, names, method=method, most=PLOTTED, seed=0)

    once: dict[str, Callable[[], object]] = {
        "the reference of FID": lambda: Reference.of(real),
        "modality gap": lambda: scores.gap(real, drawn, sampling),
        f"t-SNE of {min(n, PLOTTED)} pairs": plot("tsne"),
    }
    each: dict[str, Callable[[], object]] = {
        "FID": lambda: scores.frechet(drawn, reference, sampling),
        "IS, whole and over splits": lambda: scores.inception(similarity, 10, sampling),
        "R@1, 5, 10": lambda: scores.recall(similarity, targets, KS, sampling),
        "the same of each class": lambda: scores.by_class(
            similarity, targets, KS, classes, sampling
        ),
    }
    print(f"{n} x {dim} features, {n_classes} classes{'s':>21}{'x floor':>10}")
    print(f"{'floor: features times a matrix':46}{floor:8.2f}{1:10.1f}")
    total = 0.0
    for group, times in ((once, 1), (each, SETS)):
        for name, work in group.items():
            took = seconds(work)
            total += times * took
            print(f"{name + ', for each system' * (times > 1):46}{took:8.2f}{took / floor:10.1f}")
    print(f"{f'all figures of {SETS} systems':46}{total:8.2f}{total / floor:10.1f}")
    if peer:
        compare(real, drawn, floor)


def compare(real: NDArray[np.float32], drawn: NDArray[np.float32], floor: float) -> None:
    """Print what others take for FID."""
    one, two = Gaussian.of(real), Gaussian.of(drawn)
    with suppress(ImportError):
        torchaudio_guard.install()  # torch-fidelity imports torchvision
        from torch_fidelity.metric_fid import fid_statistics_to_metric

        given = [{"mu": m.mean, "sigma": m.covariance} for m in (one, two)]
        theirs: dict[str, float] = {}
        took = seconds(lambda: theirs.update(fid_statistics_to_metric(*given, verbose=False)))
        print(
            f"{'peer: FID by torch-fidelity, without interval':46}{took:8.2f}{took / floor:10.1f}"
        )
        apart = fid_interval(drawn, Reference.of(real), resamples=1).value
        apart = abs(apart / theirs["frechet_inception_distance"] - 1)
        print(f"  from which ours differs by {apart:.0e} of its value")
    rows = np.random.default_rng(0).integers(0, len(drawn), len(drawn))

    def resample() -> float:
        own = Gaussian.of(drawn[rows])
        return frechet_distance(own.mean, own.covariance, one.mean, one.covariance)

    took = seconds(resample) * RESAMPLES
    print(f"{f'peer: FID, {RESAMPLES} full resamples (1 timed)':46}{took:8.0f}{took / floor:10.0f}")


class Counted(Encoder):
    """Inception-v3, and how many pictures it has been given."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        self.inner = InceptionFeatures(InceptionV3(), has_head=True, device=device)
        self.dim, self.description, self.given = self.inner.dim, self.inner.description, 0

    def fingerprint(self) -> dict[str, Any]:
        return self.inner.fingerprint()

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.given += len(images)
        return self.inner.pictures(images)


def once_for_all(n: int) -> None:
    """Print how often pictures pass the network, by what is computed from them."""
    rng = np.random.default_rng(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    looks = Counted(device)
    pictures = rng.integers(0, 256, (SETS, n, 128, 128, 3), dtype=np.uint8)
    sets = [
        Samples("pictures", {"set": number}, n, lambda rows, own=own: [own[row] for row in rows])
        for number, own in enumerate(pictures)
    ]
    sampling = scores.Sampling([f"video {i // 2}" for i in range(n)], RESAMPLES, 0)
    targets = rng.integers(0, 50, n)

    def evaluate(folder: str, *, everything: bool) -> None:
        features = FeatureCache(Path(folder))
        reference = Reference.of(features.of(sets[0], looks).values)
        for own in sets:
            scores.frechet(features.of(own, looks).values, reference, sampling)
            if everything:
                logits = looks.inner.logits(features.of(own, looks).values)
                scores.inception(logits, 2, sampling)
                similarity = logits[:, :50]
                scores.recall(similarity, targets, KS, sampling)
                scores.by_class(similarity, targets, KS, [str(i) for i in range(50)], sampling)

    looks.pictures([pictures[0, 0]])  # warms up
    print(f"\n{SETS} sets of {n} pictures, Inception-v3 on {device}{'s':>15}{'ratio':>10}  given")
    base = 0.0
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        for name, folder, everything in (
            ("FID alone", one, False),
            ("FID, IS, R@k, R@k of each class", other, True),
            ("the same again, from the cache", other, True),
        ):
            before = looks.given
            took = seconds(lambda f=folder, e=everything: evaluate(f, everything=e))
            base = base or took
            print(f"{name:46}{took:8.2f}{took / base:10.2f}{looks.given - before:7}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--set", type=int, default=512 if torch.cuda.is_available() else 16)
    parser.add_argument("--no-peer", action="store_true", help="leave out the slow comparisons")
    options = parser.parse_args()
    measure(options.pictures, options.dim, options.classes, peer=not options.no_peer)
    once_for_all(options.set)


if __name__ == "__main__":
    main()
