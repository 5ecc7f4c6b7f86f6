"""The results as a page of its own, and as chapters for the report of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from avdata.report.gallery import jpeg_uri
from avdata.report.page import templates_of
from stages.evaluation.cells import Table
from stages.evaluation.exhibits import exhibit_tables
from stages.evaluation.sound_tables import sound_tables
from stages.evaluation.study import spread_over_classes
from stages.evaluation.tables import (
    gap_tables,
    headline,
    paper_tables,
    restyled_tables,
    systems_table,
)
from stages.pairs.samples import Samples

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
    """Figures as plain values, plots of the latent spaces, and pictures to look at.

    clips: of each clip its key, video, class, and by system R@k (1, 0, or between for ties) and all
    other figures that single clips have.
    plots: of each family with a common latent space, its plot (SVG). examples: a class and its
    pictures as data URIs, one a system. sounds: of each clip whose sound was named its key, source,
    class and fold, and by listener whether its class was named. drawings: plots of exhibits.
    """

    results: Mapping[str, Any]
    clips: Sequence[Mapping[str, Any]]
    plots: Mapping[str, str]
    examples: Sequence[tuple[str, Sequence[str]]]
    sounds: Sequence[Mapping[str, Any]] = ()
    drawings: Mapping[str, str] = field(default_factory=dict)


def make_examples(
    samples: Mapping[str, Samples], classes: Sequence[str], most: int
) -> list[tuple[str, list[str]]]:
    """Return up to `most` clips with the pictures of all systems, as many classes as there are."""
    rows = spread_over_classes(classes, most)
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
        "title": f"{TITLE}: {results['chapter']}" if results["chapter"] else TITLE,
        "headline": headline(results),
        "style": _style(),
        "systems": systems_table(results) if results["systems"] else None,
        "sounds": sound_tables(results),
        "exhibits": [
            (table, Markup(evaluation.drawings.get(name, "")))
            for name, table in zip(results["exhibits"], exhibit_tables(results), strict=True)
        ],
        "warnings": results["warnings"],
        "gaps": list(zip(gap_tables(results), map(Markup, evaluation.plots.values()), strict=True)),
        "restyled": restyled_tables(results),
        "papers": paper_tables(results),
        "columns": list(results["titles"].values()),
        "examples": evaluation.examples,
    }
