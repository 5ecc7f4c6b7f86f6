"""Learning rates against torch's schedulers, groups by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from stages.engine.optim import adam, adamw, cosine_restarts, linear_decay, warmup_cosine


def schedule_of(make: Callable[[torch.optim.Optimizer], LRScheduler]) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(optimizer)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_is_torchs() -> None:
    def make(optimizer: torch.optim.Optimizer) -> LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.1)

    ours = [warmup_cosine(step, 20, 0.4, final=0.1) for step in range(1, 21)]
    assert ours == pytest.approx(schedule_of(make))


@pytest.mark.parametrize("period", [6, 10])
def test_restarts_are_torchs(period: int) -> None:
    def make(optimizer: torch.optim.Optimizer) -> LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, period, eta_min=0.1)

    ours = [cosine_restarts(step, period, 0.4, final=0.1) for step in range(1, 21)]
    assert ours == pytest.approx(schedule_of(make))
    assert [step for step in range(1, 21) if ours[step - 1] == 0.4] == list(range(1, 21, period))


def test_warmup_rises_to_the_peak() -> None:
    rates = [warmup_cosine(step, 10, 2.0, warmup=4) for step in range(1, 11)]
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.5


def test_linear_decay_is_constant_and_then_falls_by_the_part() -> None:
    """50 epochs of 3 updates, the last 20 falling: 1 - max(0, e - 30) / 21, down to 1 / 21."""
    rates = [linear_decay(n, 150, 2.0, parts=50, decay_parts=20) for n in range(1, 151)]
    assert rates[:90] == [2.0] * 90
    assert rates[90:93] == pytest.approx([2 * 20 / 21] * 3)
    assert rates[147:] == pytest.approx([2 / 21] * 3)
    epochs = torch.optim.lr_scheduler.LambdaLR(
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0),
        lambda epoch: 1.0 - max(0, epoch + 1 - 30) / 21,
    )
    for epoch in range(50):
        assert rates[3 * epoch : 3 * epoch + 3] == pytest.approx(epochs.get_last_lr() * 3)
        epochs.optimizer.step()
        epochs.step()


def test_linear_decay_of_fewer_updates_keeps_its_shares() -> None:
    rates = [linear_decay(n, 10, 1.0, parts=50, decay_parts=20) for n in range(1, 11)]
    assert rates[:6] == [1.0] * 6  # of 10 updates, 6 lie in the first 30 of 50 parts
    parts = [31, 36, 41, 46]
    assert rates[6:] == pytest.approx([1 - (part - 30) / 21 for part in parts])


def test_linear_decay_to_zero() -> None:
    rates = [
        linear_decay(n, 100, 4.0, parts=50, decay_parts=20, to_zero=True) for n in range(1, 101)
    ]
    assert rates[:60] == [4.0] * 60
    assert rates[60:] == pytest.approx([4 * (100 - n) / 40 for n in range(61, 101)])
    assert rates[-1] == 0
    assert linear_decay(7, 7, 4.0, parts=3, decay_parts=0, to_zero=True) == 4.0


def test_only_matrices_decay() -> None:
    module = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3))
    module[0].weight.requires_grad_(True)
    groups = adamw(module, lr=1.0, weight_decay=0.3).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert [decay[id(p)] for p in module.parameters()] == [0.3, 0.0, 0.0, 0.0]


def test_frozen_parameters_stay_out() -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    module[0].requires_grad_(False)
    for optimizer in (adam(module, lr=1.0), adamw(module, lr=1.0, weight_decay=0.1)):
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in module[1].parameters()}
