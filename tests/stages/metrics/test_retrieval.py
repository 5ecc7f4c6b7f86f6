"""Recall against hand-made similarities, torchmetrics and chance."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.retrieval import (
    chance,
    hits_at_k,
    paired_recall,
    per_class_recall,
    recall_at_k,
)


def test_by_hand() -> None:
    similarity = [[0.9, 0.1, 0.0], [0.5, 0.4, 0.6], [0.2, 0.3, 0.1]]
    target = [0, 1, 2]  # ranks 1, 3, 3
    recall = recall_at_k(similarity, target, (1, 2, 3))
    assert [recall[k].value for k in (1, 2, 3)] == pytest.approx([1 / 3, 1 / 3, 1.0])


def test_a_brute_force_ranking_agrees() -> None:
    rng = np.random.default_rng(0)
    similarity, target = rng.normal(size=(200, 17)), rng.integers(0, 17, 200)
    for k in (1, 5, 10):
        expected = [
            float(t in sorted(range(17), key=lambda c, row=row: -row[c])[:k])
            for row, t in zip(similarity, target, strict=True)
        ]
        assert hits_at_k(similarity, target, k).tolist() == expected


def test_torch_top_k_accuracy_agrees() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    similarity, target = rng.normal(size=(300, 50)), rng.integers(0, 50, 300)
    found = torch.from_numpy(similarity).topk(5, dim=1).indices == torch.from_numpy(target)[:, None]
    assert recall_at_k(similarity, target, (5,))[5].value == pytest.approx(
        found.any(dim=1).double().mean().item()
    )


def test_a_constant_similarity_scores_chance_not_one() -> None:
    recall = recall_at_k(np.zeros((40, 20)), np.arange(40) % 20, (1, 5, 10, 30))
    for k, interval in recall.items():
        assert interval.value == pytest.approx(chance(k, 20))


def test_ties_count_what_random_order_gives_on_average() -> None:
    similarity = np.array([[3.0, 1.0, 1.0, 1.0, 0.0]])
    shuffled = similarity + 1e-9 * np.random.default_rng(2).random((20_000, 5))
    target = np.full(20_000, 2)
    for k in (1, 2, 3, 4):
        assert hits_at_k(similarity, [2], k)[0] == pytest.approx(
            hits_at_k(shuffled, target, k).mean(), abs=0.012
        )


def test_random_features_score_chance_within_the_interval() -> None:
    rng = np.random.default_rng(3)
    similarity, target = rng.normal(size=(3000, 50)), rng.integers(0, 50, 3000)
    for k, interval in recall_at_k(similarity, target).items():
        assert interval.low <= chance(k, 50) <= interval.high


def test_per_class() -> None:
    similarity = np.eye(4)[[0, 0, 2, 1]]
    target = np.array([0, 1, 2, 2])
    values = {c: i.value for c, i in per_class_recall(similarity, target, 1).items()}
    assert values == {0: 1.0, 1: 0.0, 2: 0.5}  # class 3 was never asked for


def test_clusters_reach_the_interval() -> None:
    similarity = np.eye(2)[np.repeat([0, 1, 0, 0, 1, 1], 10)]
    target = np.zeros(60, int)
    alone = recall_at_k(similarity, target, (1,))[1]
    videos = recall_at_k(similarity, target, (1,), clusters=np.repeat(np.arange(6), 10))[1]
    assert alone.value == videos.value == 0.5
    assert videos.high - videos.low > 1.5 * (alone.high - alone.low)


def test_both_directions_by_hand() -> None:
    # a0 is nearest to b1; both b0 and b1 are nearest to a1.
    a = np.array([[1.0, 0.0], [0.6, 0.8]])
    b = np.array([[0.0, 1.0], [0.8, 0.6]])
    # cosines: a0·b = 0, .8; a1·b = .8, .96
    forward, backward = paired_recall(a, b, (1, 2))
    assert forward[1].value == 0.5
    assert backward[1].value == 0.5
    assert forward[2].value == backward[2].value == 1.0


def test_directions_differ_when_one_sound_attracts_all() -> None:
    a = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.6, 0.6, 0.5]])
    b = np.array([[0.9, 0, 0.5], [0, 0.9, 0.5], [1.0, 1.0, 0.0]])
    s = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T
    forward, backward = paired_recall(a, b, (1,))
    assert forward[1].value == np.mean(s.argmax(axis=1) == np.arange(3))
    assert backward[1].value == np.mean(s.argmax(axis=0) == np.arange(3))


def test_large_sets_are_ranked_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(size=(103, 8))
    b = a + rng.normal(size=(103, 8))
    whole = paired_recall(a, b)
    monkeypatch.setattr("stages.metrics.retrieval.BLOCK_ROWS", 10)
    assert paired_recall(a, b) == whole


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="columns in"):
        hits_at_k(np.zeros((2, 3)), [0, 3], 1)
    with pytest.raises(ValueError, match="NaN"):
        hits_at_k([[np.nan, 1.0]], [0], 1)
    with pytest.raises(ValueError, match="N, C"):
        hits_at_k(np.zeros(3), [0], 1)
    with pytest.raises(ValueError, match="k must"):
        hits_at_k(np.zeros((1, 3)), [0], 0)
    with pytest.raises(ValueError, match="one shape"):
        paired_recall(np.ones((2, 3)), np.ones((3, 3)))
