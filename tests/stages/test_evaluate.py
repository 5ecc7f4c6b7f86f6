"""The whole evaluation: real command, figures held against their definitions, clear refusals."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import rel_entr

from avdata.config import load_pipeline
from avdata.errors import AvdataError, SettingsError, ShardError, WeightsError
from avdata.store import Store
from avdata.strict import build
from stages.evaluate import Settings, evaluate, main
from stages.evaluation.labelled import Labelled, read_labelled
from stages.evaluation.studio import Studio
from stages.evaluation.system import find_systems
from stages.evaluation.tables import to_markdown
from stages.generation.inputs import read_picture, read_sound
from stages.generation.painter import Sees
from stages.judges.clip import ClipEncoder
from stages.judges.thumbnail import Thumbnail
from stages.metrics.bootstrap import bootstrap_mean
from stages.pairs.clips import read_clips
from stages.pairs.features import FeatureCache
from stages.pairs.samples import Samples, frames_of
from stages.sound2scene.encoders import PictureEncoder, SoundEncoder
from stages.sound2scene.load import load_model
from stages.sound2scene.systems import spaces, z_a
from tests.stages.evaluation_run import CLIPS, COLOURS, make_products, make_shards, pipeline_file
from tests.stages.judges.test_judges import save_clip
from tests.stages.programs import python

N = CLIPS["test"] * len(COLOURS)
JUDGED_PX = 256


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with shards and products, evaluated by the command."""
    folder = tmp_path_factory.mktemp("evaluation") / "run"
    make_shards(folder)
    make_products(folder)
    done = python(["-m", "stages.evaluate", str(pipeline_file(folder))])
    assert done.returncode == 0, done.stderr
    assert done.stdout == (folder / "stages" / "evaluate" / "results.md").read_text()
    return folder


@pytest.fixture(scope="module")
def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "stages/evaluate/results.json").read_text())
    return found


@pytest.fixture(scope="module")
def studio(run: Path) -> Studio:
    """What the command looked at, from its own cache."""
    folder = run / "stages" / "evaluate"
    test = read_clips(str(run), "test")
    test = test.where(labels[0] in COLOURS for labels in test.labels)
    model = load_model(run, device="cpu")
    cache = FeatureCache(folder / "features", 5)
    classes = [labels[0] for labels in test.labels]
    train = read_clips(str(run), "train")
    return Studio(lambda _: model, test, classes, train, cache, folder / "pictures", seed=3)


def pictures(studio: Studio, system: str, number: int = 0) -> Samples:
    """The pictures of a system, at the size at which they are judged."""
    (found,) = find_systems([system], {}, [])
    return found.samples(studio, number).resized(JUDGED_PX)


def run_here(folder: Path, **settings: Any) -> dict[str, Any]:
    pipeline = load_pipeline(pipeline_file(folder, **settings))
    return dict(evaluate(pipeline, build(Settings, pipeline.stages["evaluate"], "here")).results)


def test_what_was_scored_is_said(run: Path, results: dict[str, Any]) -> None:
    assert (results["clips"], results["videos"], results["split"]) == (N, N // 2, "test")
    assert results["clips_without_a_class"] == 1
    assert results["classes"] == ["fire", "sea", "snow"]
    assert results["chance"] == {"R@1": pytest.approx(1 / 3)}
    assert results["judges"]["R@k"].startswith("not CLIP: a linear probe on mean colours")
    assert results["judges"]["why_not_clip"] == "the settings ask for a probe"
    assert "stand-in" in results["judges"]["FID"]
    parts = {"generator", "audio_encoder", "image_encoder"}
    assert {name: set(own) for name, own in results["models"].items()} == {"sound2scene": parts}
    names = {path.name for path in (run / "stages/evaluate").iterdir()}
    written = {"results.json", "results.md", "evaluation.html", "section.html"}
    assert written | {"gap-sound2scene.svg"} <= names


def test_every_clip_has_a_line_and_their_mean_is_the_figure(
    run: Path, results: dict[str, Any]
) -> None:
    lines = (run / "stages/evaluate/clips.jsonl").read_text().splitlines()
    clips = [json.loads(line) for line in lines]
    assert len({clip["key"] for clip in clips}) == N
    for system, figures in results["systems"].items():
        mean = np.mean([clip[system]["R@1"] for clip in clips])
        assert mean == pytest.approx(figures["R@1"]["value"])
    assert {clip["class"] for clip in clips} <= set(results["classes"])


@pytest.mark.parametrize("system", ["sound2scene", "icgan", "retrieval", "upper_bound"])
def test_figures_are_those_of_scikit_learn_and_scipy(
    studio: Studio, results: dict[str, Any], system: Any
) -> None:
    """R@1, FID and IS over the cached features, by other people's programs."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    taught = studio.cache.of(frames_of(studio.train).resized(JUDGED_PX), Thumbnail()).values
    seen = np.asarray(studio.cache.of(pictures(studio, system), Thumbnail()).values, np.float64)
    labels = [own[0] for own in studio.test.labels]

    mean, deviation = taught.mean(axis=0, dtype=float), taught.std(axis=0, dtype=float)
    peer = linear_model.LogisticRegression(C=1 / (1e-3 * len(taught)), tol=1e-9, max_iter=10_000)
    peer.fit((taught - mean) / deviation, [own[0] for own in studio.train.labels])
    p = peer.predict_proba((seen - mean) / deviation)

    found = results["systems"][system]
    right = np.float64(peer.classes_[p.argmax(axis=1)] == np.array(labels))
    assert found["R@1"]["value"] == pytest.approx(right.mean())
    by_video = bootstrap_mean(right, clusters=studio.test.sources, resamples=50, seed=3)
    assert found["R@1"] == pytest.approx(by_video.to_json())
    divergence = rel_entr(p, p.mean(axis=0)).sum(axis=1)
    assert found["IS"]["value"] == pytest.approx(np.exp(divergence.mean()), rel=1e-3)
    if system == "upper_bound":
        assert "FID" not in found
        return
    frames = frames_of(studio.test).resized(JUDGED_PX)
    real = np.asarray(studio.cache.of(frames, Thumbnail()).values, np.float64)
    product = np.cov(seen.T) @ np.cov(real.T)
    cross = np.sqrt(np.maximum(scipy.linalg.eigvals(product).real, 0)).sum()
    distance = ((seen.mean(0) - real.mean(0)) ** 2).sum()
    distance += np.trace(np.cov(seen.T)) + np.trace(np.cov(real.T)) - 2 * cross
    assert found["FID"]["value"] == pytest.approx(distance, abs=1e-4)


def test_intervals_hold_their_values(results: dict[str, Any]) -> None:
    for own in results["systems"].values():
        for name in ("R@1", "FID", "IS"):
            if name in own:
                assert own[name]["low"] - 1e-6 <= own[name]["value"] <= own[name]["high"] + 1e-6


def test_gap_follows_from_the_features(studio: Studio, results: dict[str, Any]) -> None:
    v, a = (np.float64(table.values) for table in spaces(studio))
    gap = results["gap"]["sound2scene"]
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1, atol=1e-5)
    magnitude = np.linalg.norm(v - a, axis=1).mean()
    assert gap["magnitude"]["value"] == pytest.approx(magnitude, rel=1e-6)
    assert gap["alignment"]["value"] == pytest.approx((v * a).sum(axis=1).mean())
    assert gap["mean_gap"] == pytest.approx(np.linalg.norm((v - a).mean(axis=0)))


def test_pictures_are_those_that_generation_makes(run: Path, studio: Studio) -> None:
    """The same model, clip and seed, by `generate`, one clip at a time."""
    model = load_model(run, device="cpu")
    for row in (0, 7):
        key = studio.test.keys[row]
        heard = model.generate(read_sound(key, 16_000, 0.5, str(run)), n=1, seed=3)[0]
        looked = model.generate(image=read_picture(key, str(run)), n=1, seed=3)[0]
        for system, picture in (("sound2scene", heard), ("icgan", looked)):
            (own,) = find_systems([system], {}, []).popitem()[0].samples(studio, 0).read([row])
            assert np.abs(own.astype(int) - picture).max() <= 1


def test_retrieval_gives_the_frame_of_the_nearest_feature(studio: Studio) -> None:
    encoder = cast(Sees, studio.painter("sound2scene")).picture_encoder
    known = studio.cache.of(frames_of(studio.train), encoder).values
    frames = frames_of(studio.train).resized(JUDGED_PX)
    shown = pictures(studio, "retrieval").read(range(N))
    for row, (heard, image) in enumerate(zip(z_a(studio).values, shown, strict=True)):
        best = int(np.linalg.norm(known - heard, axis=1).argmin())
        np.testing.assert_array_equal(image, frames.read([best])[0], err_msg=str(row))


def test_markdown_and_page_show_the_figures_and_the_papers(
    run: Path, results: dict[str, Any]
) -> None:
    folder = run / "stages" / "evaluate"
    texts = [(folder / name).read_text() for name in ("results.md", "evaluation.html")]
    texts.append((folder / "section.html").read_text())
    shown = [f"{100 * own['R@1']['value']:.1f}" for own in results["systems"].values()]
    shown += [f"{own['FID']['value']:.2f}" for n, own in results["systems"].items() if n[0] != "u"]
    shown.append(f"{results['gap']['sound2scene']['magnitude']['value']:.3f}")
    for text, before_interval in zip(texts, (" (", "<small>", "<small>"), strict=True):
        assert all(value + before_interval in text for value in shown)
        assert all(piece in text for piece in ("40.71", "50.37", "not CLIP"))
    assert texts[1].count("<img") == 4 * 8
    assert "<svg" in texts[1]
    assert not re.search(r"(src|href)=\"http", texts[1])


def test_features_are_computed_once_for_all_figures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture and sound passes each network once; a second evaluation passes none."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("evaluate"))
    calls: Counter[str] = Counter()
    for kind in (Thumbnail, PictureEncoder, SoundEncoder):

        def counted(self: Any, what: Any, batch: Sequence[Any], encode: Any = kind.encode) -> Any:
            calls[type(self).__name__] += len(batch)
            return encode(self, what, batch)

        monkeypatch.setattr(kind, "encode", counted)
    first = run_here(folder)
    # 4 systems and the training frames; test and training frames; test sounds
    assert calls == {"Thumbnail": 4 * N + N, "PictureEncoder": 2 * N, "SoundEncoder": N}
    assert run_here(folder) == first
    assert calls.total() == 5 * N + 2 * N + N


def test_clip_names_the_class_where_it_can_be_had(
    run: Path, studio: Studio, tmp_path: Path
) -> None:
    """R@1 by hand: the nearest of the category names' features to the picture's."""
    letters = [*"aefinorsw", *(f"{c}</w>" for c in "aefinorsw")]
    tokens = [*letters, "<|startoftext|>", "<|endoftext|>"]
    folder = save_clip(tmp_path / "clip", {token: i for i, token in enumerate(tokens)}, [])
    found = run_here(run, recall="auto", clip=str(folder))
    assert found["judges"]["R@k"] == f"CLIP ({folder}), text = category name"
    assert found["judges"]["why_not_clip"] is None
    assert "probe" in found["judges"]["IS"]

    clip = ClipEncoder.load(str(folder))
    texts = clip.texts(sorted(COLOURS))
    truth = np.array([sorted(COLOURS).index(own[0]) for own in studio.test.labels])
    for system in ("sound2scene", "upper_bound"):
        images = pictures(studio, system).read(range(N))
        nearest = (clip.pictures(images) @ texts.T).argmax(axis=1)
        assert found["systems"][system]["R@1"]["value"] == pytest.approx(np.mean(nearest == truth))
        for number, name in enumerate(sorted(COLOURS)):
            own = np.mean(nearest[truth == number] == number)
            by_class = found["systems"][system]["by_class"][name]["R@1"]["value"]
            assert by_class == pytest.approx(own)


def test_fewer_classes_are_fewer_candidates_and_clips(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("snow\nfire\n")
    found = run_here(run, classes_file=str(file), systems=["upper_bound"])
    assert found["classes"] == ["fire", "snow"]
    assert found["clips"] == 2 * CLIPS["test"]
    assert found["clips_without_a_class"] == CLIPS["test"] + 1
    assert found["chance"] == {"R@1": 0.5}


def test_real_frames_of_clear_colours_are_always_right(results: dict[str, Any]) -> None:
    assert results["systems"]["upper_bound"]["R@1"]["value"] == 1


def test_a_constant_picture_is_right_by_chance(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make_shards(folder)
    make_products(folder, contrast=0.0)
    found = run_here(folder, systems=["sound2scene"])["systems"]["sound2scene"]
    assert found["R@1"]["value"] == pytest.approx(1 / 3)
    assert found["IS"]["value"] == pytest.approx(1)


def test_the_upper_bound_needs_no_model(tmp_path: Path) -> None:
    make_shards(tmp_path / "run")
    found = run_here(tmp_path / "run", systems=["upper_bound"])
    assert found["systems"]["upper_bound"]["R@1"]["value"] == 1
    assert found["models"] == {}
    assert found["gap"] == {}


@pytest.mark.parametrize("missing", ["train_icgan", "train_sound2scene", "train_image_encoder"])
def test_a_missing_product_names_its_trainer(run: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("evaluate"))
    shutil.rmtree(folder / "stages" / missing)
    with pytest.raises(AvdataError, match=f"python -m stages.{missing}"):
        run_here(folder)


def test_an_interrupted_evaluation_goes_on_with_what_is_cached(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: dict[str, Any]
) -> None:
    """Stopped in the middle of a set: complete sets stay, nothing half-written is ever read."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("evaluate"))
    seen: list[int] = []  # sizes of the batches
    encode = Thumbnail.pictures

    def stopped(self: Thumbnail, batch: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if sum(seen) > N + 5:  # in the second set that thumbnails are made of
            raise KeyboardInterrupt
        seen.append(len(batch))
        return encode(self, batch)

    monkeypatch.setattr(Thumbnail, "pictures", stopped)
    arguments = [str(pipeline_file(folder))]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 130
    caches = folder / "stages" / "evaluate" / "features"
    assert list(caches.glob(".tmp*")) == []
    complete = {path.name: path.stat().st_mtime_ns for path in caches.glob("*.npy")}
    assert complete
    killed = caches / ".tmp-1-0123abcd-features.npy"  # as SIGKILL would leave it
    killed.touch()

    def counted(self: Thumbnail, batch: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        seen.append(len(batch))
        return encode(self, batch)

    seen.clear()
    monkeypatch.setattr(Thumbnail, "pictures", counted)
    main(arguments)
    assert sum(seen) == 4 * N  # of five sets of N
    assert not killed.exists()
    assert complete.items() <= {p.name: p.stat().st_mtime_ns for p in caches.glob("*.npy")}.items()
    again = json.loads((folder / "stages/evaluate/results.json").read_text())
    assert again["systems"] == results["systems"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.full((5, 48), np.nan), "features by Thumbnail are not finite: look for NaN"),
        (np.zeros((5, 1)), r"features (5, 1) for 5 pictures, not [5, 48]"),
    ],
)
def test_bad_features_are_refused_and_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: NDArray[Any], message: str
) -> None:
    monkeypatch.setattr(Thumbnail, "pictures", lambda *_: np.float32(found))
    cache = FeatureCache(tmp_path, 5)
    with pytest.raises(WeightsError, match=re.escape(message)):
        cache.of(frames_of(read_clips(str(run), "test")), Thumbnail())
    assert list(tmp_path.rglob("*.npy")) == []


def test_one_clip_is_refused_and_one_video_has_no_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setitem(CLIPS, "test", 2)  # of each class, from one video
    make_shards(folder)
    clips = read_labelled(str(folder), "test", "train")
    monkeypatch.setattr(
        "stages.evaluate.read_labelled", lambda *_: (first(clips[0], 1), *clips[1:])
    )
    with pytest.raises(
        ShardError, match=r"has 1 clip with a class in test.*stages\.evaluate\.split"
    ):
        run_here(folder, systems=["upper_bound"])
    make_products(folder)
    monkeypatch.setattr(
        "stages.evaluate.read_labelled", lambda *_: (first(clips[0], 2), *clips[1:])
    )
    found = run_here(folder)
    assert found["videos"] == 1
    for name in ("R@1", "FID", "IS"):
        figure = found["systems"]["sound2scene"][name]
        assert np.isfinite(figure["value"])
        assert figure["low"] is figure["high"] is None
    assert "too few points for t-SNE" in found["plot"]["sound2scene"]["method"]
    assert "(one video)" in to_markdown(found)


def first(labelled: Labelled, n: int) -> Labelled:
    """Return the first `n` clips."""
    kept = labelled.clips.where(row < n for row in range(len(labelled)))
    return Labelled(kept, labelled.classes[:n], 0)


def test_another_plot_is_a_setting(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        run_here(run, projection="pca")["plot"]["sound2scene"]["method"] == "principal components"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'avdata\[umap\]', or take tsne or pca"):
        run_here(run, projection="umap")


def test_one_evaluation_at_a_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(str(run / "stages" / "evaluate")).lock(), pytest.raises(SystemExit) as ended:
        main([str(pipeline_file(run))])
    assert ended.value.code == 2
    assert "another avdata run works in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "val"}, "no clips in split 'val'"),
        ({"split": "train"}, "split and train_split must differ"),
        ({"systems": ["icgan", "icgan"]}, "systems must name each system once"),
        ({"systems": ["sound2scen"]}, "did you mean sound2scene?"),
        ({"parts": {"ear": "x"}}, "parts: no ear; known: adain, audio_encoder"),
        ({"folders": {"icgan": "/x"}}, "icgan is a system already"),
        ({"folders": {"theirs": "/nowhere"}}, "there is no folder /nowhere"),
        ({"recall": "clip", "clip": "/nowhere/clip"}, "hf download"),
        ({"inception": "/nowhere.pth", "features": "inception"}, "there is no /nowhere.pth"),
    ],
)
def test_wrong_settings_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(AvdataError, match=re.escape(message)):
        run_here(run, **settings)


def test_one_class_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_shards(tmp_path / "run", classes=("sea",))
    with pytest.raises(SystemExit) as ended:
        main([str(pipeline_file(tmp_path / "run"))])
    assert ended.value.code == 2
    assert "two or more" in capsys.readouterr().err
