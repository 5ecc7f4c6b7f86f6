"""The average against its closed form and torch's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.engine.ema import Ema
from stages.sound2scene.biggan_layers import SpectralLinear


def test_closed_form() -> None:
    """Weights 1, 2, ..., n after a start at 0: the average is sum of (1 - d) d^(n - k) k."""
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(module.weight)
    ema = Ema(module, decay=0.9)
    for step in range(1, 21):
        nn.init.constant_(module.weight, step)
        ema.update(step)
    expected = sum(0.1 * 0.9 ** (20 - k) * k for k in range(1, 21))
    with ema.applied():
        torch.testing.assert_close(module.weight.item(), expected)
    assert module.weight.item() == 20.0


def test_same_as_torch() -> None:
    """All but the count of batches, which torch averages too, and rounds down."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    ema = Ema(module, decay=0.7)
    average = get_ema_multi_avg_fn(0.7)
    reference = AveragedModel(module, multi_avg_fn=average, use_buffers=True)
    reference.update_parameters(module)  # torch's first call copies
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(1, 6):
        module(torch.randn(8, 3, generator=generator)).square().mean().backward()
        optimizer.step()
        ema.update(step)
        reference.update_parameters(module)
    with ema.applied():
        averaged = {name: value.clone() for name, value in module.state_dict().items()}
    assert averaged.pop("1.num_batches_tracked") == 5
    expected = reference.module.state_dict()
    del expected["1.num_batches_tracked"]
    torch.testing.assert_close(averaged, expected)


def test_statistics_belong_to_the_averaged_weights() -> None:
    """Batch norm behind a layer whose one weight jumps: the mean of what the averaged layer gives.

    That is the averaged weight, as the inputs' mean is 1: of 1, 5, -3, 9 at d = 1/2, 4.5.
    """
    x = torch.tensor([[0.0], [2.0]])
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, momentum=1.0))
    ema = Ema(module, decay=0.5, start_step=1)
    for step, weight in enumerate((1.0, 5.0, -3.0, 9.0), 1):
        nn.init.constant_(module.get_parameter("0.weight"), weight)
        module(x)
        ema.update(step)
    with ema.applied():
        assert module.get_parameter("0.weight").item() == 4.5
        assert module.get_buffer("1.running_mean").item() == 4.5
    assert module.get_buffer("1.running_mean").item() == 9.0


def test_spectral_norm_holds_for_averaged_weights() -> None:
    """The largest singular value of the averaged, normalised layer is 1, whatever |u| became."""
    generator = torch.Generator().manual_seed(0)
    layer = SpectralLinear(6, 4, bias=False)
    start, drift = torch.randn(2, 4, 6, generator=generator)
    ema = Ema(layer, decay=0.9)
    for step in range(1, 101):
        with torch.no_grad():
            layer.weight.copy_(start + step / 200 * drift)
        layer(torch.zeros(1, 6))
        ema.update(step)
    layer.eval()
    with ema.applied(), torch.no_grad():
        normalised: Tensor = layer(torch.eye(6)).T
        largest = torch.linalg.matrix_norm(normalised, 2)
    torch.testing.assert_close(largest, torch.tensor(1.0), rtol=0.01, atol=0)


def test_copies_until_it_starts() -> None:
    module = nn.Linear(1, 1, bias=False)
    ema = Ema(module, decay=0.5, start_step=2)
    for step, value in ((1, 8.0), (2, 4.0), (3, 2.0)):
        nn.init.constant_(module.weight, value)
        ema.update(step)
    with ema.applied():
        assert module.weight.item() == 3.0  # half of the copy 4, half of 2
