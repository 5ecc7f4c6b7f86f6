"""The study's page in a real browser, its key, and the scores of known answers."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import math
import queue
import re
import shutil
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from avdata.errors import AvdataError, SettingsError
from stages.evaluation.answers import score_files, study_key
from stages.evaluation.questions import Item, make_questions, ranked_methods, read_items
from stages.evaluation.study_page import render
from stages.metrics.bootstrap import wilson
from stages.metrics.study import (
    Answer,
    Ranking,
    precision_score,
    preference_scores,
    ranking_scores,
    realism_scores,
    recall_scores,
    share,
)
from stages.user_study import app

LABELS = ("snow", "ocean", "forest", "fire", "rain")


@pytest.fixture(scope="module")
def items_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty sounds of 0.3 s of five classes, with flat pictures of two methods."""
    folder = tmp_path_factory.mktemp("study")
    rows = []
    for i in range(20):
        t = np.arange(4800) / 16000
        soundfile.write(folder / f"{i}.wav", 0.2 * np.sin(2 * np.pi * (300 + 40 * i) * t), 16000)
        for j, method in enumerate(("ours", "icgan")):
            colour = (10 * i, 120 * j, 200 - 9 * i)
            Image.new("RGB", (64, 64), colour).save(folder / f"{method}{i}.png")
        pictures = {"ours": f"ours{i}.png", "icgan": f"icgan{i}.png"}
        row = {"id": f"clip{i}", "label": LABELS[i % 5], "sound": f"{i}.wav", "pictures": pictures}
        rows.append(json.dumps(row))
    (folder / "items.jsonl").write_text("\n".join(rows) + "\n\n")
    return folder / "items.jsonl"


@pytest.fixture(scope="module")
def items(items_file: Path) -> list[Item]:
    return read_items(items_file)


def test_questions_are_fair(items: list[Item]) -> None:
    questions = make_questions(items, "both", 20, "ours", "icgan", seed=3)
    assert [q.id for q in questions] == [f"q{i:02d}" for i in range(1, 21)]
    assert Counter(q.protocol for q in questions) == {"recall": 10, "precision": 10}
    for q in questions:
        if q.protocol == "recall":
            assert {o.method for o in q.options} == {"ours", "icgan"}
            assert {o.item.id for o in q.options} == {q.item.id}
        else:
            assert {o.method for o in q.options} == {"ours"}
            assert len({o.item.label for o in q.options}) == 4
            assert [o.item for o in q.options].count(q.item) == 1
    for protocol in ("recall", "precision"):
        asked = [q.item.id for q in questions if q.protocol == protocol]
        assert len(set(asked)) == 10


def test_the_seed_decides(items: list[Item]) -> None:
    one = make_questions(items, "both", 10, "ours", "icgan", seed=1)
    assert one == make_questions(items, "both", 10, "ours", "icgan", seed=1)
    assert one != make_questions(items, "both", 10, "ours", "icgan", seed=2)


def test_no_place_gives_the_answer_away(items: list[Item]) -> None:
    places: Counter[int] = Counter()
    for seed in range(60):
        for q in make_questions(items, "precision", 10, "ours", "icgan", seed=seed):
            places[[o.item for o in q.options].index(q.item)] += 1
    for place in range(4):  # 600 draws of one in four
        assert 110 < places[place] < 190


def test_too_little_to_ask(items: list[Item]) -> None:
    with pytest.raises(SettingsError, match="30 recall questions"):
        make_questions(items, "recall", 30, "ours", "icgan", seed=0)
    with pytest.raises(SettingsError, match=r"theirs.*there are 0"):
        make_questions(items, "recall", 5, "ours", "theirs", seed=0)
    few = [i for i in items if i.label in ("snow", "ocean", "fire")]
    with pytest.raises(SettingsError, match="at least 4 labels, there are 3"):
        make_questions(few, "precision", 5, "ours", "icgan", seed=0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1"),
        ('{"id": "a"}', "line 1.*label"),
        ('{"id": "a", "label": "b", "sound": "no.wav", "pictures": {}}', "no.wav is missing"),
        ('{"id": "a", "label": "b", "sound": "x", "pictures": []}', "line 1"),
    ],
)
def test_items_that_cannot_be_read(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "items.jsonl").write_text(line)
    with pytest.raises(SettingsError, match=message):
        read_items(tmp_path / "items.jsonl")


def test_the_page_is_whole_and_keeps_the_secret(items: list[Item]) -> None:
    questions = make_questions(items, "both", 6, "ours", "icgan", seed=0)
    key = study_key(questions, "ours", "icgan", 0)
    page = render(questions, key["study"], "Sounds <& pictures>")
    assert "<title>Sounds &lt;&amp; pictures&gt;</title>" in page
    assert "http:" not in page
    assert "https:" not in page
    for secret in ("ours", "icgan", "clip0", "snow", *(q.item.id for q in questions)):
        assert secret not in page.replace("yours", "").replace("hours", "").replace("colours", "")


# In a browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

DRIVER = """
const made = [];
URL.createObjectURL = (blob) => (made.push(blob), "blob:none");
HTMLAnchorElement.prototype.click = () => {};
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
addEventListener("load", async () => {
  const log = { locked: 0, prompts: [] };
  byId("begin").click();
  while (byId("end").hidden) {
    const first = byId("options").children[0];
    if (byId("next").disabled && first.disabled) log.locked += 1;
    log.prompts.push(byId("prompt").textContent);
    byId("play").click();
    while (first.disabled) await wait(20);
    if (byId("none").hidden) {  // precision: the second click moves the choice
      first.click();
      byId("options").children[2].click();
    } else if (log.prompts.length % 2) byId("none").click();
    else for (const button of byId("options").children) button.click();
    byId("next").click();
  }
  byId("json").click();
  byId("csv").click();
  log.json = await made[0].text();
  log.csv = await made[1].text();
  await fetch("/log", { method: "POST", body: JSON.stringify(log) });
});
"""


def play_through(page: str, profile: Path) -> dict[str, Any]:
    """Serve a page on 127.0.0.1, open it in Chromium, and return what its driver posts."""
    posted: queue.Queue[bytes] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def do_POST(self) -> None:
            posted.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--autoplay-policy=no-user-gesture-required", "--mute-audio", "--no-first-run"]
    command += [f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        log: dict[str, Any] = json.loads(posted.get(timeout=120))
    finally:
        browser.terminate()
        browser.wait(30)
        server.shutdown()
        server.server_close()
    return log


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_person_answers_in_a_browser(items: list[Item], tmp_path: Path) -> None:
    questions = make_questions(items, "both", 6, "ours", "icgan", seed=5)
    key = study_key(questions, "ours", "icgan", 5)
    page = render(questions, key["study"], "Test")
    # Only the driver is let in beside the page's own script; it may post its log.
    digest = base64.b64encode(hashlib.sha256(DRIVER.encode()).digest()).decode()
    page = page.replace("script-src", f"connect-src 'self'; script-src 'sha256-{digest}'", 1)
    page = page.replace("</body>", f"<script>{DRIVER}</script></body>")
    log = play_through(page, tmp_path / "profile")
    assert log["locked"] == 6  # every question waits for its sound
    assert Counter(p.startswith("Which pictures") for p in log["prompts"]) == {True: 3, False: 3}
    (tmp_path / "one.json").write_text(log["json"])
    (tmp_path / "one.csv").write_text(log["csv"], newline="")
    saved = json.loads(log["json"])
    assert len(saved["answers"]) == 6
    by_id = {q.id: q for q in questions}
    for answer in saved["answers"]:
        wanted = {1} if by_id[answer["question"]].protocol == "precision" else {0, 2}
        assert len(answer["chosen"]) in wanted
        if wanted == {1}:
            assert answer["chosen"] == [answer["shown"][2]]
        assert answer["seconds"] >= 0
    # Both ways of saving hold the same answers.
    both = score_files(key, [tmp_path / "one.json", tmp_path / "one.csv"])
    assert both["answers"] == both["repeated"] == 6
    csv_only = score_files(key, [tmp_path / "one.csv"])
    assert csv_only["recall"] == both["recall"]
    assert csv_only["precision"] == both["precision"]


# Scores


def test_recall_and_precision_by_hand() -> None:
    rows = [("p1", "q1", {"ours", "icgan"}), ("p1", "q2", {"ours"}), ("p2", "q1", set())]
    answers = [Answer(p, q, frozenset(c)) for p, q, c in rows]
    scores = recall_scores(answers, "ours", "icgan")
    values = {name: s.by_people.value for name, s in scores.items()}
    assert values == pytest.approx({"ours": 2 / 3, "icgan": 1 / 3, "difference": 1 / 3})
    assert scores["ours"].wilson == wilson(2, 3)
    assert scores["difference"].wilson is None
    right = {"q1": "clip1", "q2": "clip2"}
    picks = [
        Answer("p1", "q1", frozenset({"clip1"})),
        Answer("p1", "q2", frozenset({"clip1"})),
        Answer("p2", "q1", frozenset({"clip1", "clip2"})),
        Answer("p2", "q2", frozenset({"clip2"})),
    ]
    assert precision_score(picks, right).by_people.value == 0.5


def test_people_who_all_agree_leave_the_doubt_to_the_questions() -> None:
    answers = [Answer(f"p{p}", f"q{q}", frozenset()) for p in range(70) for q in range(20)]
    values = [float(int(a.question[1:]) < 15) for a in answers]
    result = share(answers, values)
    assert result.by_people.low == result.by_people.high == 0.75
    assert result.wilson is not None
    spread = result.by_questions.high - result.by_questions.low
    assert spread > 4 * (result.wilson.high - result.wilson.low)


def answer_file(folder: Path, key: dict[str, Any], person: int, hit: float) -> Path:
    """Answer as a person who is right with probability `hit` and likes ours, never the rival's."""
    rng = np.random.default_rng(person)
    answers = []
    for q in key["questions"]:
        names = list(q["options"])
        if q["protocol"] == "recall":
            chosen = [n for n in names if q["options"][n]["method"] == "ours"]
        else:
            right = [n for n in names if q["options"][n]["item"] == q["item"]]
            wrong = [n for n in names if n not in right]
            chosen = right if rng.random() < hit else [str(rng.choice(wrong))]
        answers.append({"question": q["id"], "chosen": chosen, "shown": names, "seconds": 4.0})
    path = folder / f"{person}.json"
    tree = {"study": key["study"], "participant": f"p{person}", "answers": answers}
    path.write_text(json.dumps(tree))
    return path


def test_seventy_simulated_people(items_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    done = CliRunner().invoke(app, ["build", str(items_file), str(folder), "--seed", "4"])
    assert done.exit_code == 0, done.output
    key = json.loads((folder / "key.json").read_text())
    assert (folder / "study.html").stat().st_size > 20_000
    files = [str(answer_file(tmp_path, key, person, hit=0.838)) for person in range(70)]
    done = CliRunner().invoke(app, ["score", str(folder / "key.json"), *files])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["people"], result["answers"], result["refused"]) == (70, 1400, {})
    precision = result["precision"]["ours"]
    assert precision["value"] == pytest.approx(0.838, abs=0.042)  # 3 σ of 700 answers
    for name in ("wilson", "by_people", "by_questions"):
        assert precision[name]["low"] < precision["value"] < precision[name]["high"]
        assert precision[name]["low"] > result["precision"]["chance"] == 0.25
    assert result["recall"]["ours"]["value"] == 1
    assert result["recall"]["icgan"]["value"] == 0
    assert result["recall"]["difference"]["value"] == 1


def test_bad_files_harm_no_others(items: list[Item], tmp_path: Path) -> None:
    key = study_key(make_questions(items, "both", 4, "ours", "icgan", 0), "ours", "icgan", 0)
    good = answer_file(tmp_path, key, 1, 1.0)
    again = tmp_path / "again.json"
    shutil.copy(good, again)
    bad = {
        "other.json": json.dumps({**json.loads(good.read_text()), "study": "elsewhere"}),
        "broken.json": "{",
        "list.json": "[]",
        "nested.json": good.read_text().replace('["a"]', '[["a"]]').replace('["b"]', '[["b"]]'),
        "empty.csv": "",
        "unknown.json": good.read_text().replace("q01", "q99"),
        "option.json": good.read_text().replace('["a"]', '["z"]').replace('["b"]', '["z"]'),
    }
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in bad]
    result = score_files(key, [*paths, good, again])
    assert set(result["refused"]) == {str(p) for p in paths}
    assert (result["people"], result["answers"], result["repeated"]) == (1, 4, 4)
    with pytest.raises(SettingsError, match="no file holds usable answers"):
        score_files(key, paths)


@pytest.mark.parametrize("content", ["{}", '{"format": "avdata-user-study"}'])
def test_a_key_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(content)
    done = CliRunner().invoke(app, ["score", str(tmp_path / "key.json"), "x.json"])
    assert isinstance(done.exception, SettingsError)
    assert "no key of a user study" in str(done.exception)


def test_a_file_in_the_place_of_the_folder(items_file: Path) -> None:
    done = CliRunner().invoke(app, ["build", str(items_file), str(items_file)])
    assert isinstance(done.exception, AvdataError)
    assert f"cannot make the folder {items_file}" in str(done.exception)


# Rankings


@pytest.fixture(scope="module")
def four(items_file: Path) -> list[Item]:
    """The same sounds with the picture before, and pictures of four methods."""
    folder, rows = items_file.parent, []
    for i in range(20):
        pictures = {}
        for j, method in enumerate(("one", "two", "three", "avstyle")):
            pictures[method] = f"{method}{i}.png"
            Image.new("RGB", (64, 64), (10 * i, 60 * j, 99)).save(folder / pictures[method])
        row = {"id": f"clip{i}", "label": LABELS[i % 5], "sound": f"{i}.wav", "pictures": pictures}
        rows.append(json.dumps({**row, "content": "one0.png"}))
    (folder / "four.jsonl").write_text("\n".join(rows))
    return read_items(folder / "four.jsonl")


METHODS = ("one", "two", "three", "avstyle")


def test_a_ranking_asks_for_all_methods_of_one_sound(four: list[Item]) -> None:
    assert ranked_methods(four, ()) == METHODS
    assert ranked_methods(four, ["two", "avstyle"]) == ("two", "avstyle")
    questions = make_questions(four, "ranking", 12, "ours", "icgan", 0, METHODS)
    assert len({q.item.id for q in questions}) == 12
    places: Counter[int] = Counter()
    for seed in range(50):
        for q in make_questions(four, "ranking", 12, "ours", "icgan", seed, METHODS):
            assert sorted(o.method for o in q.options) == sorted(METHODS)
            assert {o.item.id for o in q.options} == {q.item.id}
            places[[o.method for o in q.options].index("avstyle")] += 1
    assert all(110 < places[place] < 190 for place in range(4))  # 600 draws of one in four
    page = render(questions, "name", "Test")
    assert page.count('"content": "data:image/png') == 12
    assert "avstyle" not in page


def test_what_cannot_be_ranked(four: list[Item], items: list[Item]) -> None:
    with pytest.raises(SettingsError, match=r"2 to 8 different methods, got one;"):
        ranked_methods(four, ["one"])
    with pytest.raises(SettingsError, match="got one, one"):
        ranked_methods(four, ["one", "one"])
    with pytest.raises(SettingsError, match=r"pictures of icgan and nobody, there are 0"):
        make_questions(items, "ranking", 3, "ours", "icgan", 0, ("icgan", "nobody"))


def test_rankings_by_hand() -> None:
    rows = [("p1", "q1", "dabc"), ("p1", "q2", "dbac"), ("p2", "q1", "adbc"), ("p2", "q2", "dabc")]
    found = ranking_scores([Ranking(p, q, tuple(order)) for p, q, order in rows], "abcd")
    points = {name: own["value"] for name, own in found["points"].items()}
    assert points == {"a": 3.0, "b": 2.25, "c": 1.0, "d": 3.75}
    assert sum(points.values()) == 10
    assert found["first"]["d"]["value"] == 0.75
    assert found["first"]["d"]["wilson"]["low"] == pytest.approx(wilson(3, 4).low)
    assert found["ahead"]["a before b"]["value"] == 0.75
    assert found["ahead"]["c before d"]["value"] == 0
    assert found["chance"] == {"points": 2.5, "first": 0.25, "ahead": 0.5}
    # c is the last for all: no spread, and points are no share that Wilson's interval is of.
    last = found["points"]["c"]
    assert last["by_people"]["low"] == last["by_people"]["high"] == 1
    assert "wilson" not in last
    with pytest.raises(ValueError, match="must order"):
        ranking_scores([Ranking("p", "q", ("a", "b"))], "abc")


def ranked_file(folder: Path, key: dict[str, Any], person: int, worth: dict[str, float]) -> Path:
    """Answer as a person who orders by worth and a noise of their own."""
    rng, answers = np.random.default_rng(person), []
    for q in key["questions"]:
        names = list(q["options"])
        felt = {n: worth[q["options"][n]["method"]] + rng.normal() for n in names}
        chosen = sorted(names, key=lambda n: -felt[n])
        answers.append({"question": q["id"], "chosen": chosen, "shown": names, "seconds": 4.0})
    path = folder / f"{person}.json"
    tree = {"study": key["study"], "participant": f"p{person}", "answers": answers}
    path.write_text(json.dumps(tree))
    return path


def test_simulated_people_rank_four_methods(
    four: list[Item], items_file: Path, tmp_path: Path
) -> None:
    folder, source = tmp_path / "study", items_file.parent / "four.jsonl"
    words = ["build", str(source), str(folder), "--protocol", "ranking", "--questions", "12"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    key = json.loads((folder / "key.json").read_text())
    assert key["methods"] == list(METHODS)
    worth = {"one": 0.0, "two": 0.3, "three": 0.3, "avstyle": 1.0}
    files = [ranked_file(tmp_path, key, person, worth) for person in range(40)]
    half = json.loads(files[0].read_text())
    half["answers"][0]["chosen"].pop()
    (tmp_path / "half.json").write_text(json.dumps({**half, "participant": "half"}))
    result = score_files(key, [*files, tmp_path / "half.json"])
    assert (result["people"], result["answers"]) == (40, 480)
    assert "not all once" in result["refused"][str(tmp_path / "half.json")]
    points = result["ranking"]["points"]

    # Of normal noise of deviation 1: a is before b with probability Φ((a − b) / √2).
    def above(a: str, b: str) -> float:
        return 0.5 * (1 + math.erf((worth[a] - worth[b]) / 2))

    for name in METHODS:
        wanted = 1 + sum(above(name, other) for other in METHODS if other != name)
        assert points[name]["value"] == pytest.approx(wanted, abs=0.15)
        for interval in ("by_people", "by_questions"):
            low, high = (points[name][interval][end] for end in ("low", "high"))
            assert low < points[name]["value"] < high
    assert points["avstyle"]["by_people"]["low"] > points["two"]["by_people"]["high"]


RANKER = DRIVER.replace(
    'if (byId("none").hidden) {',
    """if (!byId("content").hidden) {
      const all = [...byId("options").children];
      for (const button of [all[1], all[0], all[3]]) button.click();
      log.early = (log.early ?? 0) + !byId("next").disabled;  // three of four
      all[0].click();  // taken back: the others move up
      all[2].click();
      all[0].click();
      log.marks = all.map((button) => button.dataset.place).join("");
    } else if (byId("none").hidden) {""",
)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_person_ranks_in_a_browser(four: list[Item], tmp_path: Path) -> None:
    questions = make_questions(four, "ranking", 3, "ours", "icgan", 5, METHODS)
    key = study_key(questions, "ours", "icgan", 5, METHODS)
    page = render(questions, key["study"], "Test")
    digest = base64.b64encode(hashlib.sha256(RANKER.encode()).digest()).decode()
    page = page.replace("script-src", f"connect-src 'self'; script-src 'sha256-{digest}'", 1)
    page = page.replace("</body>", f"<script>{RANKER}</script></body>")
    log = play_through(page, tmp_path / "profile")
    assert log["early"] == 0
    assert log["marks"] == "4132"
    (tmp_path / "one.json").write_text(log["json"])
    (tmp_path / "one.csv").write_text(log["csv"], newline="")
    for answer in json.loads(log["json"])["answers"]:
        assert answer["chosen"] == [answer["shown"][i] for i in (1, 3, 2, 0)]
    for name in ("one.json", "one.csv"):
        found = score_files(key, [tmp_path / name])
        assert found["answers"] == 3
        total = sum(own["value"] for own in found["ranking"]["points"].values())
        assert total == pytest.approx(10)


# Preference and realism


def test_preference_and_realism_are_half_each(four: list[Item]) -> None:
    """Every method is graded as often; what is graded is seen without sound or what it was."""
    questions = make_questions(four, "guided", 24, "ours", "icgan", 0, METHODS)
    preferred = [q for q in questions if q.protocol == "preference"]
    graded = [q for q in questions if q.protocol == "realism"]
    assert len(preferred) == len(graded) == len({q.item.id for q in graded}) == 12
    assert all(sorted(o.method for o in q.options) == sorted(METHODS) for q in preferred)
    assert Counter(q.options[0].method for q in graded) == dict.fromkeys(METHODS, 3)
    page = render(questions, "name", "Test")
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    for q in data["questions"]:
        if q["protocol"] == "realism":
            assert q["sound"] is q["content"] is None
            assert q["picture"].startswith("data:image/png")
            assert q["options"] == [{"id": str(grade)} for grade in range(1, 6)]
        else:
            assert q["sound"].startswith("data:audio/wav")
    assert "You will be asked 24 questions" in page
    assert "avstyle" not in page


def test_preference_and_realism_by_hand() -> None:
    rows = [("p1", "q1", "a"), ("p1", "q2", "b"), ("p2", "q1", "a"), ("p2", "q2", "a")]
    found = preference_scores([Answer(p, q, frozenset(c)) for p, q, c in rows], "abc")
    assert {name: found[name]["value"] for name in "abc"} == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert found["chance"] == pytest.approx(1 / 3)
    interval = wilson(3, 4)
    assert found["a"]["wilson"]["low"] == pytest.approx(interval.low)
    # Of p1 (½) and p2 (1) a draw gives ½, ¾ or 1.
    assert [found["a"]["by_people"][end] for end in ("low", "high")] == [0.5, 1.0]
    grades = [("p1", "q1", "5"), ("p1", "q2", "2"), ("p2", "q1", "4"), ("p2", "q2", "1")]
    means = realism_scores([Ranking(*row[:2], (row[2],)) for row in grades], {"q1": "a", "q2": "b"})
    assert {name: own["value"] for name, own in means.items()} == {"a": 4.5, "b": 1.5}
    assert [means["a"]["by_people"][end] for end in ("low", "high")] == [4.0, 5.0]
    assert "wilson" not in means["b"]  # a grade of 1 counts nothing


def test_simulated_people_prefer_and_grade(
    four: list[Item], items_file: Path, tmp_path: Path
) -> None:
    folder, source = tmp_path / "study", items_file.parent / "four.jsonl"
    words = ["build", str(source), str(folder), "--protocol", "guided", "--questions", "24"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    key = json.loads((folder / "key.json").read_text())
    share = {"one": 0.2, "two": 0.1, "three": 0.1, "avstyle": 0.6}
    real = {"one": 2.0, "two": 3.0, "three": 3.0, "avstyle": 4.0}

    def answers(person: int) -> list[dict[str, Any]]:
        rng, made = np.random.default_rng(person), []
        for q in key["questions"]:
            names = list(q["options"])
            if q["protocol"] == "realism":
                grade = real[q["options"]["a"]["method"]] + rng.integers(-1, 2)
                chosen = str(int(grade))
            else:
                chosen = str(rng.choice(names, p=[share[q["options"][n]["method"]] for n in names]))
            made.append({"question": q["id"], "chosen": [chosen]})
        return made

    files = []
    for person in range(50):
        files.append(tmp_path / f"{person}.json")
        tree = {"study": key["study"], "participant": f"p{person}", "answers": answers(person)}
        files[-1].write_text(json.dumps(tree))
    two = {"study": key["study"], "participant": "two", "answers": answers(0)}
    two["answers"][0]["chosen"] = two["answers"][0]["chosen"] * 2
    six = {**two, "answers": answers(0)}
    at = next(n for n, q in enumerate(key["questions"]) if q["protocol"] == "realism")
    six["answers"][at]["chosen"] = ["6"]
    for name, tree in (("two", two), ("six", six)):
        (tmp_path / f"{name}.json").write_text(json.dumps(tree))
    result = score_files(key, [*files, tmp_path / "two.json", tmp_path / "six.json"])
    assert (result["people"], result["answers"]) == (50, 1200)
    assert "not one" in result["refused"][str(tmp_path / "two.json")]
    assert "does not know" in result["refused"][str(tmp_path / "six.json")]
    for method, wanted in share.items():
        found = result["preference"][method]
        assert found["value"] == pytest.approx(wanted, abs=0.06)
        assert found["by_people"]["low"] < found["value"] < found["by_people"]["high"]
        assert result["realism"][method]["value"] == pytest.approx(real[method], abs=0.2)


GRADER = DRIVER.replace(
    'if (byId("none").hidden) {',
    """if (!byId("picture").hidden) {
      log.quiet = (log.quiet ?? 0) + byId("play").hidden;
      first.click();
      byId("options").children[3].click();  // 4: the second click moves the choice
    } else if (byId("none").hidden) {""",
).replace('byId("play").click();', 'if (!byId("play").hidden) byId("play").click();')


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_person_prefers_and_grades_in_a_browser(four: list[Item], tmp_path: Path) -> None:
    questions = make_questions(four, "guided", 6, "ours", "icgan", 5, METHODS)
    key = study_key(questions, "ours", "icgan", 5, METHODS)
    page = render(questions, key["study"], "Test")
    digest = base64.b64encode(hashlib.sha256(GRADER.encode()).digest()).decode()
    page = page.replace("script-src", f"connect-src 'self'; script-src 'sha256-{digest}'", 1)
    page = page.replace("</body>", f"<script>{GRADER}</script></body>")
    log = play_through(page, tmp_path / "profile")
    assert log["quiet"] == 3
    (tmp_path / "one.json").write_text(log["json"])
    by_id = {q.id: q.protocol for q in questions}
    for answer in json.loads(log["json"])["answers"]:
        graded = by_id[answer["question"]] == "realism"
        assert answer["chosen"] == (["4"] if graded else [answer["shown"][2]])
    found = score_files(key, [tmp_path / "one.json"])
    assert {own["value"] for own in found["realism"].values()} == {4.0}
