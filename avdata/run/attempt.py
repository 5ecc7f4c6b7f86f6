"""One step over the clips of a part, so that a crash costs the source it came from and no other.

A step that raises, or whose process dies, is tried again source by source. The sources on which it
does so become failed rows; the others go through the step once more, together.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from avdata.clip import Clip, Status
from avdata.config import StepsSettings
from avdata.errors import AvdataError, ClipError, Reason
from avdata.run.child import ProcessDiedError, in_child
from avdata.steps import make_step
from avdata.steps.base import PartContext, by_source
from avdata.store import Store, explained
from avdata.strict import digest


@dataclass(frozen=True, slots=True)
class Attempt:
    """One step to be run on some clips of a part."""

    root: str
    step: str
    settings: StepsSettings
    seed: int
    base: str  # path without suffix of what it writes
    clips: tuple[Clip, ...]
    keep: bool = True  # False: only to see whether it works; nothing is written


@dataclass(frozen=True, slots=True)
class Made:
    """What a step made of the clips."""

    base: str
    clips: tuple[Clip, ...]
    media_sha256: str = ""  # of the tar at `base`.tar; "" if there is none
    tracebacks: tuple[str, ...] = ()  # of the sources that crashed by a bug


def attempt(wanted: Attempt) -> Made:
    """Run the step; what it raises comes out."""
    store = Store(wanted.root)
    step = make_step(wanted.step, wanted.settings)
    with explained(store.root), store.scratch() as scratch:
        part = PartContext(store, f"{wanted.base}.tar", Path(scratch), wanted.seed)
        clips = tuple(step.run(wanted.clips, part))
        return Made(wanted.base, clips, part.finish() if wanted.keep else "")


def make(wanted: Attempt, apart: bool) -> Made:
    """Run the step; sources that crash it become failed rows (decoder_crash, crashed).

    apart: in a child process. Raises AvdataErrors as they come, and what the sources raise only
    together, one after the other.
    """
    work = _work(apart)
    try:
        return work(wanted)
    except AvdataError:
        raise
    except Exception:
        failures = crashing(wanted, wanted.clips, apart)
    if not failures:  # together they were too much, for the memory as it may be
        return work(replace(wanted, settings=_one_at_a_time(wanted.settings)))
    # Another name than that of the whole: what is made of the rest must never pass for it.
    base = f"{wanted.base.rpartition('/')[0]}/{digest(wanted.base, sorted(failures))}"
    rest = tuple(clip for clip in wanted.clips if source_name(clip) not in failures)
    crashed = (clip for clip in wanted.clips if source_name(clip) in failures)
    made = work(replace(wanted, base=base, clips=rest))
    rows = (*made.clips, *(_failed(clip, wanted.step, failures) for clip in crashed))
    return replace(made, clips=rows, tracebacks=tracebacks(failures))


def crashing(wanted: Attempt, clips: Iterable[Clip], apart: bool) -> dict[str, Exception]:
    """Try each source of the clips alone; return the names of those that crash, with the error."""
    work = _work(apart)
    failures: dict[str, Exception] = {}
    for group in by_source(clip for clip in clips if clip.status is Status.ACTIVE):
        try:
            work(replace(wanted, clips=tuple(group), keep=False))
        except AvdataError:
            raise
        except Exception as error:
            failures[source_name(group[0])] = error
    return failures


def _one_at_a_time(settings: StepsSettings) -> StepsSettings:
    """Return the settings with one source in work at a time; the output is the same."""
    return replace(settings, trim=replace(settings.trim, threads=1, decoder_threads=1))


def _work(apart: bool) -> Callable[[Attempt], Made]:
    return partial(in_child, attempt) if apart else attempt


def tracebacks(failures: Mapping[str, Exception]) -> tuple[str, ...]:
    """Return what a log should say of bugs: each source with its traceback."""
    return tuple(
        f"{name} crashed\n{''.join(traceback.format_exception(error))}"
        for name, error in failures.items()
        if not isinstance(error, ProcessDiedError)
    )


def source_name(clip: Clip) -> str:
    """Return what tells a clip's source from the others of its part, as `by_source` does."""
    return clip.url or f"key {clip.key}"


def _failed(clip: Clip, step: str, failures: Mapping[str, Exception]) -> Clip:
    if clip.status is not Status.ACTIVE:
        return clip
    error = failures[source_name(clip)]
    if isinstance(error, ProcessDiedError):
        return clip.failed(step, ClipError(Reason.DECODER_CRASH, str(error)))
    return clip.failed(step, ClipError(Reason.CRASHED, repr(error)))
