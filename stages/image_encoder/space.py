"""In which space features live: which image encoder made them, and how it was shown pictures.

A generator reads one such space and an audio encoder lands in one, so their weights files carry it.
Parts of different encoders would draw noise together, and nothing else would say why.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avdata.strict import build, to_tree
from stages.engine.checkpoint import PRODUCT_NAME, checkpoints, read_metadata
from stages.engine.errors import CheckpointError
from stages.engine.launch import stage_folder
from stages.image_encoder.frozen import FrozenEncoder

if TYPE_CHECKING:
    from stages.engine.run import Run

logger = logging.getLogger(__name__)

SHOWN_DIGITS = 16  # of a SHA-256, in messages


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpace:
    """What the features of one image encoder depend on; a ModelCard carries its `record()`.

    weights: SHA-256 over the encoder's tensors, which tells it from all others. identity: its name
    and arguments, for people. view_px: side to which a picture is squashed; input_px: side to which
    it is then resampled, None: not. normalisation: mean and deviation of the colours.
    """

    weights: str
    identity: dict[str, Any]
    view_px: int
    input_px: int | None
    normalisation: tuple[float, ...]

    @classmethod
    def of(cls, encoder: FrozenEncoder, view_px: int) -> FeatureSpace:
        """Return the space of an encoder that is shown pictures of this side."""
        return build(cls, to_tree({**encoder.fingerprint(), "view_px": view_px}), "image encoder")

    @classmethod
    def read(cls, metadata: Mapping[str, Any], where: str) -> FeatureSpace | None:
        """Return the space that a weights file names; None if it is older than this record.

        where: the file, for the CheckpointError that a damaged record raises.
        """
        tree = metadata.get("features")
        if tree is None:
            return None
        try:
            return build(cls, tree, f"{where}: features")
        except TypeError as error:
            raise CheckpointError(f"{where} names its features incompletely: {error}") from None

    def record(self) -> dict[str, Any]:
        """Return it as plain values, as a weights file names it under `features`."""
        return dict(to_tree(self))

    @property
    def view(self) -> tuple[int, int, tuple[float, ...]]:
        """What is done to a picture before the encoder, comparable."""
        return self.view_px, self.input_px or self.view_px, self.normalisation

    @property
    def view_text(self) -> str:
        """The same in words."""
        _, seen_px, _ = self.view
        return f"{self.view_px} px" + (f", then {seen_px} px" if seen_px != self.view_px else "")


def require_same_encoder(spaces: Mapping[str, FeatureSpace], advice: str) -> None:
    """Raise CheckpointError, ending in `advice`, unless all belong to one image encoder.

    spaces: by the file, or the like, that names them.
    """
    if len({space.weights for space in spaces.values()}) > 1:
        raise CheckpointError(
            f"different image encoders, whose features mean nothing to each other: "
            f"{_encoders(spaces)}; {advice}"
        )


def warn_of_other_views(spaces: Mapping[str, FeatureSpace], advice: str) -> None:
    """Warn, ending in `advice`, unless all are shown pictures in the same way.

    The space is the same then, only a picture lies a little elsewhere in it: what is made is worse,
    not noise. The published IC-GAN and Sound2Scene differ so themselves (one crops, one squashes).
    """
    if len({space.view for space in spaces.values()}) > 1:
        views = ", ".join(f"{where}: {space.view_text}" for where, space in spaces.items())
        logger.warning(
            "the image encoder is shown pictures in different ways (%s), which costs quality; %s",
            views,
            advice,
        )


def check_space(
    run: Run[Any], space: FeatureSpace, encoder: str | Path, *, partner: str, same_view: str
) -> None:
    """Hold a training's features against its own last checkpoint, and its partner's product.

    encoder: where the image encoder comes from. partner: the stage whose product has to understand
    these features. same_view: what to do if that one is shown pictures in another way, for a
    warning. Raises CheckpointError if the training began with another encoder. A partner of
    another encoder is a warning: it may be about to be trained again, or not meant to be used.
    """
    name = run.name
    if found := checkpoints(run.folder / "checkpoints"):
        for file in sorted(found[max(found)].glob("*.safetensors")):
            before = FeatureSpace.read(read_metadata(file), str(file))
            if before is not None:
                require_same_encoder(
                    {str(file): before, str(encoder): space},
                    "start anew with --fresh or another output folder, or name the encoder it "
                    f"began with as stages.{name}.image_encoder",
                )
    product = stage_folder(run.pipeline, partner) / PRODUCT_NAME
    if not run.is_main or not product.is_file():
        return
    theirs = FeatureSpace.read(read_metadata(product), str(product))
    if theirs is None:
        return
    both = {str(product): theirs, f"this {name}": space}
    if theirs.weights != space.weights:
        logger.warning(
            "different image encoders: %s; `generate` and `evaluate` will refuse the two together: "
            "train %s again with --fresh, or name its encoder as stages.%s.image_encoder",
            _encoders(both),
            partner,
            name,
        )
    else:
        warn_of_other_views(both, same_view)


def _encoders(spaces: Mapping[str, FeatureSpace]) -> str:
    return ", ".join(
        f"{where}: {space.weights[:SHOWN_DIGITS]} "
        f"({', '.join(f'{k} {v}' for k, v in space.identity.items())})"
        for where, space in spaces.items()
    )
