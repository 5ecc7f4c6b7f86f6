"""What a family is: the systems of one paper, and how the shared programs reach them.

A family's `family.py` holds one `Family`, in plain values and functions that import what is heavy
when they are called; `stages/families.py` is the table of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.evaluation.exhibits import Exhibit, Showing
    from stages.evaluation.grid import Grid
    from stages.evaluation.hearing import Hearing
    from stages.evaluation.judged import Column, Figure
    from stages.evaluation.papers import PaperTable
    from stages.evaluation.studio import Studio
    from stages.evaluation.system import System
    from stages.generation.commands import Command, Option
    from stages.generation.painter import Ability, Painter
    from stages.pairs.features import FeatureTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Where a painter's parts come from.

    run: output folder of a pipeline, for what its trainings have finished. parts: files or folders
    in the place of the run's. options: values of the family's own options.
    """

    run: str | Path | None = None
    parts: Mapping[str, str | Path] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family of models.

    parts: what its painter consists of, and the program that trains each; the first one draws.
    models: its networks, name → `module:factory`, as checkpoints name them. open: the painter;
    raises CheckpointError, WeightsError or SettingsError. options: of opening, beside one for each
    part. commands: of `stages.generate` that it alone has. benchmark: the paper's table beside
    which ours stands, its rows named as systems; papers: what else is reported. figures, columns:
    those it adds to the shared ones. spaces: features of the pictures and of the sounds of the test
    clips in one space, for the modality gap. exhibits: what else is shown of its systems. hearing:
    who names its sounds, without a picture. ablations: the paper's grid.
    """

    name: str
    title: str
    paper: str
    parts: Mapping[str, str]
    abilities: frozenset[Ability]
    open: Callable[[Opening], Painter]
    systems: tuple[System, ...]
    models: Mapping[str, str] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    commands: tuple[Command, ...] = ()
    benchmark: PaperTable | None = None
    papers: tuple[PaperTable, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    spaces: Callable[[Studio], tuple[FeatureTable, FeatureTable]] | None = None
    exhibits: Callable[[Showing], Sequence[Exhibit]] | None = None
    hearing: Hearing | None = None
    ablations: Grid | None = None
