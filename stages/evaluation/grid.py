"""A grid of ablations: one trainer, trained again with one thing changed in each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stages.evaluation.papers import PaperTable

FULL = "full"  # the row that changes nothing: the pipeline's own training


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """What one row changes in the trainer's section, and what the paper's table calls it.

    all_frames: it needs shards of the same clips that hold every candidate frame. file: the
    trainer's setting that a file of the user's fills, which it needs.
    """

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    all_frames: bool = False
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The ablations of a family.

    trainer: the program that is run again, for all of the family's parts that it trains. of: what
    is scored: the pictures of `system`, or the sounds that the family `system` names, for which no
    picture is made. columns: its figures that the table shows; (): all. compared: those of single
    clips that are also shown over all seeds, and clip by clip against `full`. inherited: settings
    of the trainer that name another part, each of which is the pipeline's own; published: those of
    them that may be left to the trainer where this pipeline trains none. rows: by name, the last
    one `full`. by_default: those that need nothing more. class_setting: the trainer's setting
    for the number of classes, where a table goes by it.
    """

    title: str
    trainer: str
    system: str
    of: Literal["pictures", "sounds"] = "pictures"
    rows: Mapping[str, GridRow]
    by_default: tuple[str, ...]
    paper: PaperTable
    columns: tuple[str, ...] = ()
    compared: tuple[str, ...] = ("R@1",)
    inherited: Mapping[str, str] = field(default_factory=dict)
    published: tuple[str, ...] = ()
    class_setting: str | None = None
    class_title: str = "Classes"
