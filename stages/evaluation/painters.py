"""Which families a pipeline speaks for, and their painters, opened when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from avdata.config import Pipeline
from avdata.errors import SettingsError
from stages.engine.errors import CheckpointError
from stages.evaluation.hearing import Listener
from stages.evaluation.studio import Studio
from stages.evaluation.system import System
from stages.families import families, family, trained_in
from stages.family import Family, Opening
from stages.generation.painter import Painter, Sees
from stages.nn.encoder import Encoder


def trained_here(pipeline: Pipeline) -> list[Family]:
    """Return the families that this pipeline trains, or else has trained; else all."""
    named = [f for f in families() if not pipeline.stages.keys().isdisjoint(f.parts.values())]
    return named or trained_in(pipeline.output) or families()


class Painters:
    """The painters of the families, each opened when it is first asked for.

    run: output folder of the pipeline. parts: files or folders in the place of what was trained;
    the painters of a grid's rows have those that the rows do not train. options: of painters, by
    family.
    """

    def __init__(
        self,
        run: str,
        parts: Mapping[str, str],
        device: str,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._run, self._parts, self._device = run, parts, device
        self._options = options or {}
        self._opened: dict[str, Painter] = {}

    def open(self, name: str) -> Painter:
        """Return a painter of a family, or, as FAMILY/ROW, what `stages.ablate` trained for a row.

        Raises CheckpointError, naming the trainers, for a missing part.
        """
        if name not in self._opened:
            own, _, row = name.partition("/")
            self._opened[name] = self._of_row(family(own), row) if row else self._of(family(own))
        return self._opened[name]

    def _of(self, one: Family) -> Painter:
        with _told_makers(one):
            return one.open(self._opening(one, {}))

    def _of_row(self, one: Family, row: str) -> Painter:
        assert one.ablations is not None, f"{one.name} has no grid of ablations"
        trainer = one.ablations.trainer
        own = self._folder(f"ablate_{one.name}") / row / "stages" / trainer
        parts = {
            part: own if stage == trainer else self._parts.get(part, self._folder(stage))
            for part, stage in one.parts.items()
        }
        try:
            options = self._options.get(one.name, {})
            return one.open(Opening(parts=parts, options=options, device=self._device))
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}. It is trained by python -m stages.ablate PIPELINE --set "
                f'stages.ablate.rows=["{row}","full"]'
            ) from None

    def _folder(self, stage: str) -> Path:
        return Path(self._run) / "stages" / stage

    def listener(self, one: Family, name: str, path: str | None = None) -> Listener:
        """Return who hears for a family; path: a file or folder in the place of its own part."""
        assert one.hearing is not None
        others = {one.hearing.part: path} if path else {}
        with _told_makers(one):
            return one.hearing.open(self._opening(one, others), name)

    def _opening(self, one: Family, others: Mapping[str, str]) -> Opening:
        given = {**self._parts, **others}
        parts = {part: path for part, path in given.items() if part in one.parts}
        own = self._options.get(one.name, {})
        return Opening(run=self._run, parts=parts, options=own, device=self._device)

    def sources(self) -> dict[str, Any]:
        """Return of each painter that was needed where its parts come from."""
        return {name: dict(painter.sources) for name, painter in self._opened.items()}


@contextmanager
def _told_makers(one: Family) -> Iterator[None]:
    """Say which programs make the parts of a family that lacks one."""
    try:
        yield
    except CheckpointError as error:
        makers = ", ".join(f"{p}: python -m stages.{maker}" for p, maker in one.parts.items())
        raise CheckpointError(
            f"{error}. Parts are made in this pipeline's output ({makers}), or named by "
            "stages.evaluate.parts"
        ) from None


def own_encoder(systems: dict[System, Family | None], studio: Studio) -> Encoder:
    """Return the image encoder of the first family that has one."""
    for one in [found for found in systems.values() if found is not None] or families():
        if "sees" in one.abilities:
            return cast(Sees, studio.painter(one.name)).picture_encoder
    raise SettingsError(
        "stages.evaluate.features is image_encoder, but no system here has one; take inception"
    )
