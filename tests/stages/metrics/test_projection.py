"""Projections keep what they promise to keep; plots are well-formed."""

from __future__ import annotations

import builtins
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from stages.metrics.projection import principal_components, project
from stages.metrics.scatter import colour, scatter_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_principal_components_are_the_covariances_eigenvectors() -> None:
    x = np.random.default_rng(0).normal(size=(80, 5)) * [5, 3, 1, 1, 1]
    points = principal_components(x, 2)
    values = np.linalg.eigvalsh(np.cov(x, rowvar=False))[::-1][:2]
    np.testing.assert_allclose(np.cov(points, rowvar=False), np.diag(values), atol=1e-10)


def test_a_rotated_plane_comes_back_with_its_distances() -> None:
    rng = np.random.default_rng(1)
    flat = rng.normal(size=(30, 2))
    axes, _ = np.linalg.qr(rng.normal(size=(7, 7)))
    points = principal_components(flat @ axes[:2])
    inner = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(inner, np.linalg.norm(flat[:, None] - flat[None], axis=-1))
    line = principal_components(np.outer(np.arange(4.0), np.ones(3)))
    np.testing.assert_allclose(line[:, 1], 0, atol=1e-12)


def test_tsne_keeps_neighbours_together() -> None:
    pytest.importorskip("sklearn.manifold")
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(3), 30)
    x = rng.normal(size=(90, 20)) + 8 * rng.normal(size=(3, 20))[labels]
    projection = project(x, perplexity=10)
    distance = np.linalg.norm(projection.points[:, None] - projection.points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).mean() > 0.95
    assert projection.method == "t-SNE, perplexity 10"
    np.testing.assert_array_equal(project(x, perplexity=10).points, projection.points)


@pytest.mark.parametrize("shape", [(30, 200), (200, 30)])
def test_principal_components_are_those_of_the_singular_value_decomposition(
    shape: tuple[int, int],
) -> None:
    x = np.random.default_rng(6).normal(size=shape) * np.linspace(1, 5, shape[1])
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    expected = u[:, :5] * s[:5]
    np.testing.assert_allclose(np.abs(principal_components(x, 5)), np.abs(expected), atol=1e-8)


@pytest.mark.slow
def test_umap_keeps_neighbours_together() -> None:
    pytest.importorskip("umap")
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(3), 30)
    x = rng.normal(size=(90, 20)) + 8 * rng.normal(size=(3, 20))[labels]
    projection = project(x, "umap")
    distance = np.linalg.norm(projection.points[:, None] - projection.points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).all()
    assert projection.method == "UMAP, 15 neighbours"
    np.testing.assert_array_equal(project(x, "umap").points, projection.points)
    few = project(x[:8], "umap")
    assert few.method == "UMAP, 7 neighbours"
    assert np.isfinite(few.points).all()
    assert "too few points for UMAP" in project(x[:4], "umap").method


def test_few_points_lower_the_perplexity_or_the_ambition() -> None:
    pytest.importorskip("sklearn.manifold")
    x = np.random.default_rng(3).normal(size=(10, 4))
    assert project(x).method == "t-SNE, perplexity 3"
    assert "too few points" in project(x[:3]).method


def test_without_scikit_learn_the_caption_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    x = np.random.default_rng(4).normal(size=(12, 4))
    projection = project(x)
    assert "principal components (t-SNE needs scikit-learn" in projection.method
    np.testing.assert_array_equal(projection.points, project(x, "pca").points)


def test_the_plot_shows_every_point_inside_its_frame_and_escapes_names() -> None:
    points = np.random.default_rng(5).normal(size=(12, 2)) * [100, 1]
    classes = ["rail & <horn>", "ocean", "snow"] * 4
    svg = scatter_svg(points, classes, ["image"] * 6 + ["sound"] * 6, "t-SNE <of> z")
    root = ElementTree.fromstring(svg)
    group = root.find(f"{SVG}g")
    assert group is not None
    marks = list(group)
    assert len(marks) == 12
    assert all(0 < float(m.get(a, "")) < 560 for m in marks for a in ("x", "y"))
    assert [m.get("href") for m in marks] == ["#circle"] * 6 + ["#diamond"] * 6
    assert len({m.get("fill") for m in marks}) == 3
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert texts == ["image", "sound", "ocean", "rail & <horn>", "snow", "t-SNE <of> z"]


def test_the_plot_is_to_scale_with_y_upwards() -> None:
    svg = scatter_svg([[0, 0], [2, 0], [0, 1]], ["a", "b", "c"], ["x"] * 3, "")
    group = ElementTree.fromstring(svg).find(f"{SVG}g")
    assert group is not None
    a, b, c = ((float(m.get("x", "")), float(m.get("y", ""))) for m in group)
    assert b[0] - a[0] == pytest.approx(2 * (a[1] - c[1]), abs=0.2)


def test_one_point_and_fifty_colours() -> None:
    assert "<use" in scatter_svg([[3.0, 3.0]], ["a"], ["x"], "one")
    assert len({colour(i) for i in range(50)}) == 50


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="points must be"):
        scatter_svg([[0, 0]], ["a", "b"], ["x", "x"], "")
    with pytest.raises(ValueError, match="at most 4"):
        scatter_svg(np.zeros((5, 2)), list("abcde"), list("abcde"), "")
    with pytest.raises(ValueError, match="finite"):
        principal_components(np.full((3, 2), np.nan))
