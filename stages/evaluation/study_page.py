"""The page of a user study: one file with everything inside, which needs no server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from stages.evaluation.questions import GRADES, OPTION_IDS, TYPES, Question


def render(questions: Sequence[Question], study: str, title: str) -> str:
    """Return the page: one file with everything inside, and no hint of which picture is whose."""
    import jinja2

    def inline(path: Path) -> str:
        data = base64.b64encode(path.read_bytes()).decode()
        return f"data:{TYPES[path.suffix.lower()]};base64,{data}"

    def compared(q: Question) -> dict[str, Any]:
        return {
            "sound": inline(q.item.sound),
            "content": inline(q.item.content) if q.item.content else None,
            "options": [
                {"id": name, "src": inline(o.item.pictures[o.method])}
                for name, o in zip(OPTION_IDS, q.options, strict=False)
            ],
        }

    def graded(q: Question) -> dict[str, Any]:
        (one,) = q.options  # seen by itself: neither sound nor the picture before tells of it
        picture = inline(one.item.pictures[one.method])
        grades = [{"id": grade} for grade in GRADES]
        return {"sound": None, "content": None, "picture": picture, "options": grades}

    data = {
        "study": study,
        "questions": [
            {
                "id": q.id,
                "protocol": q.protocol,
                **(graded(q) if q.protocol == "realism" else compared(q)),
            }
            for q in questions
        ],
    }
    templates = files("stages") / "templates"
    script = (templates / "user_study.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = (templates / "user_study.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        count=len(questions),
        graded=any(q.protocol == "realism" for q in questions),
        data=json.dumps(data).replace("<", "\\u003c"),
        style=(templates / "user_study.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
