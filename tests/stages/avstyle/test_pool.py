"""The pool of painted pictures: what is kept, what is shown, and that it goes on as it was."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.avstyle.pool import Pool


def numbered(first: int, n: int) -> tuple[Tensor, Tensor]:
    """Pictures whose number stands in every pixel, and ten times as much beside them."""
    numbers = torch.arange(first, first + n, dtype=torch.float32)
    return numbers.view(-1, 1, 1, 1).expand(-1, 3, 2, 2), 10 * numbers[:, None]


def test_until_it_is_full_all_are_shown_as_they_are() -> None:
    pool = Pool(50, seed=0)
    for first in range(0, 50, 10):
        pictures, told = numbered(first, 10)
        shown, beside = pool.exchange(pictures, told)
        assert torch.equal(shown, pictures)
        assert torch.equal(beside, told)


def test_then_half_are_shown_later_each_with_what_it_was_painted_from() -> None:
    pool = Pool(50, seed=0)
    seen: list[int] = []
    late = 0
    for first in range(0, 2050, 50):
        pictures, told = numbered(first, 50)
        shown, beside = pool.exchange(pictures, told)
        assert torch.equal(10 * shown[:, 0, 0, 0], beside[:, 0])
        seen += [int(value) for value in shown[:, 0, 0, 0]]
        late += int((shown != pictures).any(dim=(1, 2, 3)).sum()) if first else 0
    assert abs(late / 2000 - 0.5) < 4 * (0.25 / 2000) ** 0.5  # four standard errors
    # Beside the 50 first, which were shown when they came, each picture is shown at most once:
    # when it comes, or when another one takes its place.
    assert all(seen.count(number) <= 1 + (number < 50) for number in set(seen))
    kept = {int(picture[0, 0, 0]) for picture in pool.pictures}
    assert len(kept) == 50
    assert max(kept) > 1950


def test_what_is_shown_hangs_on_no_graph() -> None:
    pictures, told = (x.clone().requires_grad_() for x in numbered(0, 3))
    assert not any(x.requires_grad for x in Pool(2, seed=0).exchange(pictures, told))


def test_it_goes_on_where_it_was() -> None:
    whole, first = Pool(5, seed=1), Pool(5, seed=1)
    for pool in (whole, first):
        pool.exchange(*numbered(0, 12))
    again = Pool(5, seed=2)
    again.load_state_dict(first.state_dict())
    expected, _ = whole.exchange(*numbered(100, 20))
    found, _ = again.exchange(*numbered(100, 20))
    assert torch.equal(found, expected)
    assert not torch.equal(found, numbered(100, 20)[0])
