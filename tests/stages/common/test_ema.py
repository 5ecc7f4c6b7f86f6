"""The average against its closed form and torch's own."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.common.ema import Ema


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
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    ema = Ema(module, decay=0.7)
    reference = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    reference.update_parameters(module)  # torch's first call copies
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(1, 6):
        module(torch.randn(8, 3, generator=generator)).square().mean().backward()
        optimizer.step()
        ema.update(step)
        reference.update_parameters(module)
    with ema.applied():
        averaged = {name: value.clone() for name, value in module.state_dict().items()}
    torch.testing.assert_close(averaged, reference.module.state_dict())


def test_copies_until_it_starts() -> None:
    module = nn.Linear(1, 1, bias=False)
    ema = Ema(module, decay=0.5, start_step=2)
    for step, value in ((1, 8.0), (2, 4.0), (3, 2.0)):
        nn.init.constant_(module.weight, value)
        ema.update(step)
    with ema.applied():
        assert module.weight.item() == 3.0  # half of the copy 4, half of 2
