"""The reward for variety by hand, and what it pulls at."""

from __future__ import annotations

import pytest
import torch

from stages.losses.diversity import diversity


def test_value_by_hand() -> None:
    noises = torch.zeros(2, 4), torch.tensor([[1.0] * 4, [0.5] * 4])
    # 0.06 apart at noises 1 apart; 0.2 at 0.5, which is more than enough.
    pictures = torch.zeros(2, 3, 16, 16), torch.full((2, 3, 16, 16), 0.06)
    pictures[1][1] = 0.2
    assert diversity(pictures, noises, limit=0.1).item() == pytest.approx((0.06 + 0.1) / 2)
    assert diversity(pictures, noises, limit=1.0).item() == pytest.approx((0.06 + 0.4) / 2)


def test_flicker_of_single_pixels_is_no_variety() -> None:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    board = (1 - 2 * ((rows + columns) % 2)).float().expand(1, 3, 64, 64)
    noises = torch.zeros(1, 4), torch.ones(1, 4)
    assert diversity((board, -board), noises, limit=1.0).item() == 0
    # The same contrast in fields of 8 pixels, which are cells, counts in full.
    fields = (1 - 2 * ((rows // 8 + columns // 8) % 2)).float().expand(1, 3, 64, 64)
    assert diversity((fields, -fields), noises, limit=9.0).item() == pytest.approx(2)


def test_only_pairs_below_the_limit_are_pulled_apart() -> None:
    noises = torch.zeros(2, 4), torch.ones(2, 4)
    a = torch.zeros(2, 1, 8, 8, requires_grad=True)
    b = torch.stack([torch.full((1, 8, 8), 0.05), torch.full((1, 8, 8), 0.5)])
    diversity((a, b), noises, limit=0.1).backward()
    assert a.grad is not None
    assert (a.grad[0] < 0).all()  # down, away from what is above
    assert not a.grad[1].any()


def test_equal_noises_do_not_divide_by_zero() -> None:
    z, x = torch.ones(1, 4), torch.zeros(1, 3, 8, 8)
    assert diversity((x, x), (z, z), limit=0.1).item() == 0
