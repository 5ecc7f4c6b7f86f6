"""The command of `stages.generate` that AVStyle alone has: export."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from stages.generation.commands import Command, Job

if TYPE_CHECKING:
    from stages.avstyle.restyler import Restyler


def export(job: Job) -> None:
    """Both halves of the generator and the sound encoder as ONNX, checked against torch."""
    from stages.avstyle.export import OPSET, export

    apart = export(cast("Restyler", job.painter), job.folder, job.given.seed)
    for name, most in apart.items():
        print(f"{job.folder / name}.onnx: opset {OPSET}, differs from torch by at most {most:.1e}")


COMMANDS = (Command(work=export, needs=frozenset({"restyles"}), options=()),)
