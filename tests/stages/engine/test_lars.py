"""LARS against its equations in float64 and against SGD where it must be the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.engine.lars import Lars


def test_equals_its_equations_over_some_steps() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(4)]
    expected = [w.numpy().copy() for w in weights]
    velocity = [np.zeros_like(w) for w in expected]
    parameters = [torch.nn.Parameter(w.clone()) for w in weights]
    optimizer = Lars(parameters, lr=0.5, weight_decay=0.01, momentum=0.8, trust=0.02)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient
        optimizer.step()
        for i, gradient in enumerate(step):
            w, g = expected[i], gradient.numpy()
            size = np.sqrt((w**2).sum())
            rate = 0.02 * size / (np.sqrt((g**2).sum()) + 0.01 * size)
            velocity[i] = 0.8 * velocity[i] + rate * (g + 0.01 * w)
            expected[i] = w - 0.5 * velocity[i]
    for parameter, wanted in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.detach(), wanted, rtol=1e-12)


def test_the_size_of_a_step_follows_the_weight_and_not_the_gradient() -> None:
    for factor in (1e-6, 1.0, 1e6):
        w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        w.grad = factor * torch.tensor([0.0, 1.0])
        Lars([w], lr=1.0, momentum=0.0, trust=0.01).step()
        torch.testing.assert_close(w.detach(), torch.tensor([3.0, 4.0 - 0.01 * 5]))


def test_weights_of_zero_are_trained_as_by_sgd() -> None:
    w = [torch.nn.Parameter(torch.zeros(3)) for _ in range(2)]
    for one in w:
        one.grad = torch.tensor([1.0, -2.0, 0.5])
    Lars([w[0]], lr=0.1, momentum=0.9).step()
    torch.optim.SGD([w[1]], lr=0.1, momentum=0.9).step()
    torch.testing.assert_close(w[0], w[1])


def test_without_a_gradient_nothing_moves() -> None:
    still, frozen = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    still.grad = torch.zeros(2)
    Lars([still, frozen], lr=1.0).step()
    assert torch.equal(still, torch.ones(2))
    assert torch.equal(frozen, torch.ones(2))


def test_state_goes_on_after_loading() -> None:
    def steps(optimizer: Lars, w: torch.nn.Parameter, n: int) -> None:
        for _ in range(n):
            w.grad = w.detach().clone() + 1
            optimizer.step()

    whole = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    steps(Lars([whole], lr=3.0), whole, 5)
    first = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = Lars([first], lr=3.0)
    steps(optimizer, first, 2)
    second = torch.nn.Parameter(first.detach().clone())
    resumed = Lars([second], lr=3.0)
    resumed.load_state_dict(optimizer.state_dict())
    steps(resumed, second, 3)
    assert torch.equal(whole, second)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"trust": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need lr"):
        Lars([torch.zeros(1)], **{"lr": 1.0, **wrong})
