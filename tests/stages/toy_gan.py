"""Two models that train against each other: each call of `backward` must move one of them only.

python -m tests.stages.toy_gan pipeline.yaml, or under torchrun.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avdata.strict import section
from stages.engine.launch import launch
from stages.engine.meters import gather
from stages.engine.optim import adam
from stages.engine.run import Run
from stages.engine.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    steps: int | None = 3
    batch_size: int = 4
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    train: Train = section(Train, "Length and batch.")


def train(run: Run[Settings]) -> None:
    """Move a generator's output to where a discriminator scores real numbers."""
    data = torch.linspace(2, 3, 12).view(12, 1)
    rows = run.rows(len(data))
    generator = run.model("generator", nn.Linear(2, 1))
    critic = run.model("critic", nn.Linear(1, 1))
    g_optimizer = run.optimizer("g", adam(generator, lr=0.1))
    c_optimizer = run.optimizer("c", adam(critic, lr=0.1))

    def made(n: int) -> Tensor:
        return generator(torch.randn(n, 2, generator=run.generator))

    def critic_loss(batch: Tensor) -> Tensor:
        with torch.no_grad():
            fake = made(len(batch))
        return critic(fake).mean() - critic(data[batch]).mean()

    def generator_loss(batch: Tensor) -> Tensor:
        return -critic(made(len(batch))).mean()

    for _ in run.steps(rows):
        run.backward(critic, rows, critic_loss)
        assert all(p.grad is None for p in generator.parameters())
        run.update(c_optimizer)
        run.backward(generator, rows, generator_loss)
        assert all(p.grad is None for p in critic.parameters())
        assert all(p.grad is not None for p in generator.parameters())
        run.update(g_optimizer)
        mine = [p.tolist() for m in (generator, critic) for p in m.parameters()]
        assert all(other == mine for other in gather(run.fabric, mine))
    if run.is_main:
        print("adversaries agree")


if __name__ == "__main__":
    launch("train_toy", Settings, train)
