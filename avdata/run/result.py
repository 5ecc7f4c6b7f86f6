"""What one step made of one part, as it is recorded beside its table.

work/STEP/ID.parquet   the clip table
work/STEP/ID.tar       the media, if the step writes any
work/STEP/ID.json      the record, written last: while it is there and whole, the work is done
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from avdata.clip import Clip, Status
from avdata.errors import RETRYABLE, Reason
from avdata.run.sealed import read_sealed, write_sealed
from avdata.store import Store, is_remote

RECIPES_PATH = "work/recipes.json"


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step made of one part."""

    step: str
    made_from: str  # the part's name, or the SHA-256 of the table that went in
    recipe: str  # digest of the step's version, settings and, if it uses it, the seed
    table: str  # path of the clip table
    sha256: str  # of the table: the input of the next step
    media: str  # path of the media tar; "" if there is none
    media_sha256: str
    rows_in: int
    rows_out: int
    by_status: Mapping[str, int]
    by_reason: Mapping[str, int]  # of the rows this step failed or rejected
    crashed: int  # rows that this step or an earlier one crashed on
    retryable: int  # failed rows that may succeed another time
    seconds: float
    files: Mapping[str, int]  # path of each file it wrote, with its bytes
    accepted_ms: int = 0  # total length of the accepted clips


def write_recipes(store: Store, reached: str, made_by: Mapping[str, str]) -> None:
    """Note with what each step works from now on; earlier steps keep what was noted of them.

    reached: the step that the plan's clips have behind them.
    """
    known = read_recipes(store)
    tree = {"reached": reached, "recipes": {**known.get("recipes", {}), **made_by}}
    if tree != known:
        write_sealed(store, RECIPES_PATH, tree)


def read_recipes(store: Store) -> dict[str, Any]:
    """Return `reached` and `recipes` as they were noted; empty if they were not."""
    return read_sealed(store, RECIPES_PATH) or {}


def record_path(step: str, result_id: str) -> str:
    """Return where the record of a result is."""
    return f"work/{step}/{result_id}.json"


def write_result(store: Store, result_id: str, result: StepResult) -> None:
    """Record a result whose table and media are complete."""
    write_sealed(store, record_path(result.step, result_id), asdict(result))


def read_record(store: Store, step: str, result_id: str) -> StepResult | None:
    """Return a result as it was recorded; None if there is none, or the record was changed."""
    tree = read_sealed(store, record_path(step, result_id))
    try:
        return StepResult(**tree) if tree else None
    except TypeError:  # another version of avdata wrote it
        return None


def read_result(store: Store, step: str, result_id: str, deep: bool = False) -> StepResult | None:
    """Return the recorded result if all that the step wrote is there, unchanged.

    The table is compared by its checksum, the media by their size, or if `deep` by checksum too.
    """
    result = read_record(store, step, result_id)
    if result is None:
        return None
    try:
        whole = (
            all(store.size(path) == size for path, size in result.files.items())
            and store.sha256(result.table) == result.sha256
            and not (deep and result.media and store.sha256(result.media) != result.media_sha256)
        )
    except FileNotFoundError:
        return None
    return result if whole else None


def summarise(step: str, before: Sequence[Clip], after: Sequence[Clip]) -> dict[str, Any]:
    """Return the counts of a StepResult, from the rows that went in and came out."""
    mine = [c for c in after if c.step == step and c.status in (Status.FAILED, Status.REJECTED)]
    return {
        "rows_in": len(before),
        "rows_out": len(after),
        "by_status": dict(sorted(Counter(str(c.status) for c in after).items())),
        "by_reason": dict(sorted(Counter(c.reason for c in mine).items())),
        "crashed": sum(c.reason == Reason.CRASHED for c in after),
        "retryable": sum(map(may_pass, mine)),
        "accepted_ms": sum(
            round(1000 * c.media.n_samples / c.media.sample_rate_hz)
            for c in after
            if c.status is Status.ACCEPTED and c.media is not None
        ),
    }


def may_pass(clip: Clip) -> bool:
    """Tell whether fetch may succeed another time: the reason may go, or the file be put there."""
    if clip.status is not Status.FAILED or clip.step != "fetch":
        return False
    return clip.reason in RETRYABLE or not is_remote(clip.url)
