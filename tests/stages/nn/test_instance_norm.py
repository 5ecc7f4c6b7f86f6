"""Instance norm in every layout, precision and way to run it: the same as by its definition."""

from __future__ import annotations

import pytest
import torch

from stages.nn.instance_norm import instance_norm

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 5, 6, 4), (1, 2, 2, 2), (2, 1, 4, 4)])
def test_value_and_gradient(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    at = 3 + 2 * torch.randn(shape, dtype=torch.float64)
    weights = torch.randn(shape, dtype=torch.float64)
    x = at.clone(memory_format=layout).requires_grad_()
    ours = instance_norm(x)
    (ours * weights).sum().backward()

    plain = at.clone().requires_grad_()
    mean = plain.mean((2, 3), keepdim=True)
    expected = (plain - mean) / ((plain - mean).square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(x.grad, plain.grad)


def test_layout_and_precision_are_kept() -> None:
    x = torch.randn(2, 8, 16, 16, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    ours = instance_norm(x)
    assert ours.dtype == torch.bfloat16
    assert ours.is_contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.instance_norm(x.float())
    torch.testing.assert_close(ours.float(), expected, atol=0.03, rtol=0.01)


def test_an_even_picture_becomes_zero() -> None:
    for layout in LAYOUTS:
        x = torch.full((2, 3, 4, 4), 7.0).to(memory_format=layout)
        assert instance_norm(x).abs().max() < 1e-3


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_what_is_recorded_holds_for_any_number_of_pictures() -> None:
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    traced = torch.jit.trace(instance_norm, (x,))  # type: ignore[no-untyped-call]
    more = torch.randn(5, 3, 8, 8).to(memory_format=torch.channels_last)
    torch.testing.assert_close(traced(more), instance_norm(more))
