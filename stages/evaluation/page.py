"""The results as a page of its own, and as chapters for the report of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from avdata.report.gallery import jpeg_uri
from avdata.report.page import templates_of
from stages.evaluation.samples import Samples
from stages.evaluation.systems import TITLES, System
from stages.evaluation.tables import Table, gap_table, headline, paper_tables, systems_table

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

TITLE = "Evaluation"
TEMPLATE = "evaluation.html.j2"
CHAPTER = "chapter.html.j2"
STYLE = "templates/evaluation.css"
SIDE_PX = 160  # of the pictures on the page


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures as plain values, the plot of the latent space, and pictures to look at.

    clips: of each clip its key, video, class, and R@k of each system: 1, 0, or between for ties.
    svg: None if no system hears. examples: a class and its pictures as data URIs, one a system.
    """

    results: Mapping[str, Any]
    clips: Sequence[Mapping[str, Any]]
    svg: str | None
    examples: Sequence[tuple[str, Sequence[str]]]


def make_examples(
    samples: Mapping[System, Samples], classes: Sequence[str], most: int
) -> list[tuple[str, list[str]]]:
    """Return up to `most` clips with the pictures of all systems, as many classes as there are."""
    seen: dict[str, int] = {}
    turns = []
    for row, name in enumerate(classes):
        turns.append((seen.get(name, 0), row))
        seen[name] = seen.get(name, 0) + 1
    rows = [row for _, row in sorted(turns)[:most]]
    pictures = [[jpeg_uri(i, SIDE_PX) for i in own.read(rows)] for own in samples.values()]
    return [(classes[row], [own[n] for own in pictures]) for n, row in enumerate(rows)]


def page(evaluation: Evaluation) -> str:
    """Return a self-contained HTML page."""
    return _template(TEMPLATE).render(**_values(evaluation), whole=True)


def section(evaluation: Evaluation) -> str:
    """Return the same without a page around it: a chapter for the report (section.html)."""
    return _template(TEMPLATE).render(**_values(evaluation), whole=False)


def chapter(title: str, lead: str, tables: Sequence[Table]) -> str:
    """Return tables as a chapter for the report."""
    return _template(CHAPTER).render(title=title, lead=lead, tables=tables, style=_style())


def _style() -> Markup:
    from markupsafe import Markup

    return Markup(resources.files("stages").joinpath(STYLE).read_text(encoding="utf-8"))


def _template(name: str) -> Template:
    return templates_of("stages").get_template(name)


def _values(evaluation: Evaluation) -> dict[str, Any]:
    from markupsafe import Markup

    results = evaluation.results
    return {
        "title": TITLE,
        "headline": headline(results),
        "style": _style(),
        "systems": systems_table(results),
        "gap": gap_table(results["gap"]) if "gap" in results else None,
        "papers": paper_tables(),
        "svg": None if evaluation.svg is None else Markup(evaluation.svg),
        "columns": [TITLES[system] for system in results["systems"]],
        "examples": evaluation.examples,
    }
