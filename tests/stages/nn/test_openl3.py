"""OpenL3's towers: published sizes, Keras's files, published embeddings where weights are."""

from __future__ import annotations

import gzip
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from avdata import audio, weights
from avdata.errors import WeightsError
from stages.judges.openl3 import OpenL3, centre, windows
from stages.nn.openl3 import Tower, load_tower

BLOCKS = [(64, 64), (128, 128), (256, 256), (512, 512)]


def reference(in_channels: int, pool: tuple[int, int]) -> nn.Sequential:
    """Return the network layer by layer as its authors describe it, up to the embedding of 512."""
    layers: list[nn.Module] = [nn.BatchNorm2d(in_channels, eps=1e-3)]
    width = in_channels
    for number, block in enumerate(BLOCKS):
        for place, channels in enumerate(block):
            layers.append(nn.Conv2d(width, channels, 3, padding="same"))
            width = channels
            if (number, place) != (3, 1):
                layers += [nn.BatchNorm2d(channels, eps=1e-3), nn.ReLU()]
        if number < 3:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers, nn.MaxPool2d(pool), nn.Flatten())


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                for value, low in ((part.weight, 0.5), (part.running_var, 0.5), (part.bias, -0.5)):
                    assert value is not None
                    value.copy_(low + torch.rand(value.shape, generator=generator))
                assert part.running_mean is not None
                part.running_mean.copy_(torch.randn(part.running_mean.shape, generator=generator))
    return network.eval()


def filled(in_channels: int, pool: tuple[int, int]) -> tuple[Tower, nn.Sequential]:
    """Return a tower and the reference with the same weights, which are matched by their order."""
    torch.manual_seed(in_channels)
    theirs = reference(in_channels, pool)
    randomised(theirs, in_channels)
    tower = Tower(in_channels).eval()
    held = [own for own in theirs if isinstance(own, nn.Conv2d | nn.BatchNorm2d)]
    for (_, layer), other in zip(tower.in_order(), held, strict=True):
        layer.load_state_dict(other.state_dict())
    return tower, theirs


@pytest.mark.parametrize(
    ("in_channels", "keras_total", "trained"),
    [(1, 4_689_860, 4_687_042), (3, 4_691_020, 4_688_198)],
)
def test_sizes_are_keras_own(in_channels: int, keras_total: int, trained: int) -> None:
    tower = Tower(in_channels)
    assert sum(p.numel() for p in tower.parameters()) == trained
    state = {n: v for n, v in tower.state_dict().items() if not n.endswith("batches_tracked")}
    assert sum(v.numel() for v in state.values()) == keras_total
    widths = (in_channels, 64, 64, 128, 128, 256, 256, 512, 512)
    convs = sum(9 * a * b + b for a, b in pairwise(widths))
    assert keras_total == convs + 4 * (
        sum(widths) - 512
    )  # four values a channel, the last has none


@pytest.mark.parametrize(
    ("shape", "pool"), [((2, 1, 257, 197), (32, 24)), ((1, 3, 224, 224), (28, 28))]
)
def test_towers_are_the_network_as_described(shape: tuple[int, ...], pool: tuple[int, int]) -> None:
    tower, theirs = filled(shape[1], pool)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = tower(x)
        assert found.shape == (shape[0], 512)
        torch.testing.assert_close(found, theirs(x), rtol=1e-4, atol=1e-4)


# Files


def write_keras(path: Path, tower: Tower, *, spectrogram: bool = False) -> None:
    """Write weights as Keras does: groups of layers by name, their order in an attribute."""
    h5py = pytest.importorskip("h5py", reason="h5py reads OpenL3's files: pip install h5py")
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    names["running_var"] = "moving_variance"
    with h5py.File(path, "w") as file:
        layers = ["input_1"]
        file.create_group("input_1").attrs["weight_names"] = []
        if spectrogram:
            group = file.create_group("spectrogram_1")
            group.create_dataset(
                "spectrogram_1/real:0", data=np.zeros((512, 1, 1, 257), np.float32)
            )
            group.attrs["weight_names"] = [b"spectrogram_1/real:0"]
            layers.append("spectrogram_1")
        for number, (_, layer) in enumerate(tower.in_order()):
            conv = isinstance(layer, nn.Conv2d)
            name = f"{'conv2d' if conv else 'batch_normalization'}_{number}"
            group = file.create_group(name)
            own = []
            for key, value in layer.state_dict().items():
                if key == "num_batches_tracked":
                    continue
                array = value.numpy()
                word = {"weight": "kernel", "bias": "bias"}[key] if conv else names[key]
                if word == "kernel":
                    array = array.transpose(2, 3, 1, 0)
                own.append(f"{name}/{word}:0".encode())
                group.create_dataset(own[-1].decode(), data=array)
            group.attrs["weight_names"] = own
            layers.append(name)
        file.attrs["layer_names"] = [name.encode() for name in layers]


@pytest.mark.parametrize("spectrogram", [False, True])
def test_keras_files_are_read_by_order(tmp_path: Path, spectrogram: bool) -> None:
    tower, _ = filled(1, (32, 24))
    write_keras(tmp_path / "a.h5", tower, spectrogram=spectrogram)
    (tmp_path / "a.h5.gz").write_bytes(gzip.compress((tmp_path / "a.h5").read_bytes()))
    for name in ("a.h5", "a.h5.gz"):
        found = Tower(1)
        load_tower(found, tmp_path / name)
        for key, value in tower.state_dict().items():
            if not key.endswith("batches_tracked"):
                assert torch.equal(found.state_dict()[key], value), key


def test_files_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {k: v for k, v in Tower(3).state_dict().items() if not k.endswith("tracked")}
    save_file(state, tmp_path / "picture.safetensors")
    load_tower(Tower(3), tmp_path / "picture.safetensors")
    with pytest.raises(WeightsError, match=r"convs\.0\.weight is \[64, 3, 3, 3\], the tower has"):
        load_tower(Tower(1), tmp_path / "picture.safetensors")
    with pytest.raises(WeightsError, match="avdata weights get openl3"):
        load_tower(Tower(1), tmp_path / "nothing.h5")
    with pytest.raises(WeightsError, match="holds no openl3_audio_linear_env"):
        OpenL3.load(tmp_path)
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(WeightsError, match=r"needs the package h5py.*avdata\[eval\]"):
        load_tower(Tower(1), tmp_path / "broken.h5")


def test_a_broken_keras_file_says_so(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    with pytest.raises(WeightsError, match="cannot read"):
        load_tower(Tower(1), tmp_path / "broken.h5")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.attrs["layer_names"] = []
    with pytest.raises(WeightsError, match="0 layers with weights, a tower of OpenL3 16"):
        load_tower(Tower(1), tmp_path / "empty.h5")


# What is seen and heard


def test_windows_are_26_in_3_s_and_cover_all() -> None:
    sound = np.arange(1, 144_001, dtype=np.float32)
    cut = windows(sound)
    assert cut.shape == (26, 48_000)
    assert not cut[0, :24_000].any()
    np.testing.assert_array_equal(cut[0, 24_000:], sound[:24_000])
    np.testing.assert_array_equal(cut[10], sound[24_000:72_000])
    assert cut[-1].max() == 144_000
    assert windows(sound[:100]).shape == (1, 48_000)
    assert windows(sound, 0.5, centred=False).shape == (5, 48_000)


@pytest.mark.parametrize(("name", "hop_s", "centred"), [("", 0.1, True), ("_linear", 0.5, False)])
def test_there_are_as_many_windows_as_published(
    shared_data: Path, name: str, hop_s: float, centred: bool
) -> None:
    folder = shared_data / "audio" / "openl3_regression"
    published = np.load(folder / f"chirp_44k{name}.npz")["timestamps"]
    assert len(windows(chirp(folder), hop_s, centred=centred)) == len(published)


def chirp(folder: Path) -> Any:
    import soundfile

    samples, rate_hz = soundfile.read(folder / "chirp_44k.wav", dtype="float32", always_2d=True)
    return audio.resample(samples.mean(axis=1), rate_hz, 48_000)


def judge() -> OpenL3:
    return OpenL3(Tower(3), Tower(1))


def test_spectrograms_are_decibels_below_the_maximum() -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 48_000) * np.linspace(0, 1, 48_000) ** 4
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = np.stack(
        [np.abs(np.fft.rfft(hann * sound[242 * t : 242 * t + 512])) for t in range(197)], axis=1
    )
    decibels = 10 * np.log10(np.maximum(frames, 1e-10))
    wanted = np.maximum(decibels - decibels.max(), -80)
    found = judge()._decibels(torch.tensor(sound[None], dtype=torch.float32))
    np.testing.assert_allclose(found[0, 0], wanted, atol=2e-3)


def test_silence_is_at_its_own_maximum() -> None:
    found = judge()._decibels(torch.zeros(2, 48_000))
    assert found.shape == (2, 1, 257, 197)
    assert not found.any()


def test_the_centre_is_seen() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    np.testing.assert_array_equal(centre(picture), picture[16:240, 38:262])
    assert centre(picture[:224, :224]).shape == (224, 224, 3)
    for shape in ((64, 64, 3), (600, 257, 3), (10, 2000, 3)):
        assert centre(np.zeros(shape, np.uint8)).shape == (224, 224, 3)


def test_avc_is_the_mean_cosine_over_windows() -> None:
    """By the embeddings themselves, in float64; another rate is brought to 48 kHz."""
    tower_s, _ = filled(1, (32, 24))
    tower_p, _ = filled(3, (28, 28))
    own = OpenL3(tower_p, tower_s, rate_hz=16_000)
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 3_000).astype(np.float32)
    picture = rng.integers(0, 256, (256, 256, 3), np.uint8)
    v = own.picture_embeddings([picture]).double().numpy()[0]
    a = own.sound_embeddings(sound).double().numpy()
    assert len(a) == 1
    cosines = a @ v / np.linalg.norm(a, axis=1) / np.linalg.norm(v)
    found = own.correspondence(own.pictures([picture]), own.sounds([sound]))
    np.testing.assert_allclose(found, [cosines.mean()], rtol=1e-5)


# The published embeddings


def published() -> OpenL3:
    try:
        folder = weights.folder("openl3", download=False)
        return OpenL3.load(folder)
    except WeightsError as error:
        pytest.skip(f"OpenL3's weights are not here: {error}")


def test_published_sound_embeddings(shared_data: Path) -> None:
    own, folder = published(), shared_data / "audio" / "openl3_regression"
    wanted = np.load(folder / "chirp_44k_linear.npz")["embedding"]
    found: Tensor = own.sound_embeddings(chirp(folder), hop_s=0.5, centred=False)
    cosines = torch.cosine_similarity(found, torch.from_numpy(wanted))
    assert cosines.min() > 0.99  # another filter resamples there


def test_published_picture_embeddings(shared_data: Path) -> None:
    own, folder = published(), shared_data / "audio" / "openl3_regression"
    wanted = np.load(folder / "daisy_linear.npz")["embedding"]
    picture = np.asarray(Image.open(folder / "daisy.jpg").convert("RGB"))
    found = own.picture_embeddings([picture])
    assert torch.cosine_similarity(found, torch.from_numpy(wanted)).min() > 0.99
