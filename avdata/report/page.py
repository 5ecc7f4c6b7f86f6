"""Put the facts, the charts and the gallery of a run on one self-contained page."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from avdata.clip import Status
from avdata.errors import StoreError
from avdata.measures import class_names
from avdata.report import chapters, charts
from avdata.report.facts import EXAMPLES, GOOD, collect
from avdata.report.gallery import http_link, make_cards
from avdata.report.sample import clips_at
from avdata.report.steps import TABLES
from avdata.report.training import chapters_of, stages_of, trainings_of
from avdata.store import Store

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

REPORT = "report.html"
OF_A_RUN = ("summary.json", *(f"{name}.parquet" for name in TABLES), "shards/dataset.json")
GALLERY_ACCEPTED = 24
GALLERY_REJECTED = 6
GALLERY_BYTES = 13_000_000
SHARD_ROWS = 40


def write_report(
    store_root: str,
    *,
    gallery: int = GALLERY_ACCEPTED,
    budget_bytes: int = GALLERY_BYTES,
) -> str:
    """Write report.html into a run folder and return its full path.

    Whatever the folder holds is shown, what programs under stages/ left there as well; what is
    missing is left out. `gallery` is the number of accepted clips shown, `budget_bytes` bounds
    their pictures and sounds together. The same folder gives the same page. Raises StoreError if
    there is nothing of a run to show.
    """
    store = Store(store_root)
    if not any(store.exists(path) for path in OF_A_RUN):
        raise StoreError(f"{store_root} is no run folder: it has none of {', '.join(OF_A_RUN)}")
    html = render(store, gallery, budget_bytes)
    store.write_bytes(REPORT, html.encode())
    return store.full(REPORT)


def render(store: Store, gallery: int, budget_bytes: int) -> str:
    """Return the page."""
    environment = templates_of("avdata")
    environment.filters.update(
        number=charts.number,
        whole=charts.whole,
        size=charts.bytes_text,
        seconds=charts.seconds_text,
        link=http_link,
        coded=coded,
    )
    templates = files("avdata") / "templates"
    script = (templates / "report.js").read_text(encoding="utf-8")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        **context(store, gallery, budget_bytes),
        style=(templates / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=script_hash,
    )


def templates_of(package: str) -> Environment:
    """Return the templates of a package, strict and escaping."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def coded(text: str) -> Markup:
    """Return text with its `quoted` words as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def context(store: Store, gallery: int, budget_bytes: int) -> dict[str, Any]:
    """Return all that the template shows."""
    facts = collect(store)
    names = class_names()
    accepted = facts.samples.balanced(GOOD, gallery)
    rejected = facts.samples.balanced([Status.REJECTED], GALLERY_REJECTED if gallery else 0)
    examples = {
        (status, kind): rows[:EXAMPLES]
        for status in (Status.FAILED, Status.REJECTED)
        for kind, rows in facts.samples.of(status).items()
    }
    wanted = [*accepted, *rejected, *(p for rows in examples.values() for p in rows)]
    clips = clips_at(store, facts.final, wanted) if wanted else {}
    with_media = [clips[p] for p in (*accepted, *rejected) if clips[p].media]
    shown = list(make_cards(store, with_media, names, budget_bytes))
    stages = stages_of(store, facts.summary.get("stages", ()))
    explained = chapters.reasons(facts, examples, clips)
    values = {
        "summary": facts.summary,
        "facts": facts,
        "rows": facts.status.total() - facts.status[Status.EXPANDED],
        "tiles": chapters.tiles(facts),
        "made": chapters.made(facts.summary),
        "times": chapters.times(facts),
        "has_heat": any(c.sight and c.sight.heat for c in shown),
        "funnel": chapters.funnel(facts),
        "charts": chapters.measured(facts),
        "rankings": chapters.rankings(facts, names),
        "accepted_cards": [c for c in shown if c.clip.status != Status.REJECTED],
        "rejected_cards": [c for c in shown if c.clip.status == Status.REJECTED],
        "failed_reasons": [r for r in explained if r.status == Status.FAILED],
        "rejected_reasons": [r for r in explained if r.status == Status.REJECTED],
        "splits": chapters.splits(facts),
        "packed": chapters.packed(facts),
        "shard_rows": facts.shards[:SHARD_ROWS],
        "provenance": chapters.provenance(facts),
        "trainings": trainings_of(store, stages),
        "results": chapters_of(store, stages),
        "settings": chapters.setting_lines(facts.summary.get("settings", {})),
    }
    return values | {"contents": contents(values)}


def contents(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (id, title) of the chapters that the page has."""
    chapters = (
        ("steps", "Steps", ("funnel",)),
        ("gallery", "Gallery", ("accepted_cards", "rejected_cards")),
        ("measured", "Measures", ("charts", "rankings", "times")),
        ("reasons", "Reasons", ("failed_reasons", "rejected_reasons")),
        ("shards", "Shards", ("splits",)),
        ("provenance", "Provenance", ("provenance",)),
        ("training", "Training", ("trainings",)),
        *((chapter.id, chapter.title, ("results",)) for chapter in values["results"]),
        ("settings", "Settings", ("summary",)),
    )
    return [(id, title) for id, title, parts in chapters if any(values[p] for p in parts)]
