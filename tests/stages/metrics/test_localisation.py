"""cIoU and AUC on hand-made boxes and maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stages.metrics.localisation import (
    brighter_part,
    ciou,
    consensus_map,
    localisation_scores,
    upsample,
)


def test_boxes_cover_their_pixels() -> None:
    g = consensus_map([[0.0, 0.0, 0.5, 1.0], [0.25, 0.0, 0.75, 0.5]], 4, 8)
    assert g.astype(int).tolist() == [[1] * 6 + [0] * 2] * 2 + [[1] * 4 + [0] * 4] * 2


def test_annotators_have_to_agree() -> None:
    boxes = [[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 0.5], [0.0, 0.0, 0.5, 0.5]]
    g = consensus_map(boxes, 2, 2, agreement=2)
    assert g.tolist() == [[1.0, 0.5], [0.5, 0.0]]


def test_ciou_by_hand() -> None:
    g = np.array([[1.0, 0.5, 0.0, 0.0]])
    assert ciou([[1, 1, 0, 0]], g) == 1.0
    assert ciou([[1, 0, 1, 0]], g) == pytest.approx(1 / 2.5)
    assert ciou([[0, 0, 1, 1]], g) == 0.0


def test_a_plain_box_gives_the_usual_iou() -> None:
    """Prediction [0, 4) × [0, 4), box [2, 6) × [0, 4): overlap 8, union 24."""
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = True
    g = consensus_map([[2 / 8, 0.0, 6 / 8, 4 / 8]], 8, 8)
    assert ciou(mask, g) == pytest.approx(8 / 24)


def test_the_mask_is_the_brighter_half() -> None:
    heat = np.random.default_rng(0).permutation(100).reshape(10, 10).astype(float)
    mask = brighter_part(heat)
    assert mask.sum() == 49  # the pixel level with the median is left out
    assert heat[mask].min() > heat[~mask].max()
    assert brighter_part(heat, 0.1).sum() == 9
    assert not brighter_part(np.ones((4, 4))).any()
    scaled = brighter_part(5 * heat - 3)
    assert (scaled == mask).all()  # any range of map will do


def test_upsampling_is_torchs_bilinear() -> None:
    torch = pytest.importorskip("torch")
    heat = np.random.default_rng(1).random((14, 14)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(heat)[None, None], size=(90, 224), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(upsample(heat, 90, 224), expected[0, 0].numpy(), atol=1e-6)


def test_a_perfect_map_of_half_the_picture() -> None:
    """A map peaked in a box of just half the pixels finds nearly all of it."""
    x = np.abs(np.arange(64) - 31.5)[None, :] + 0.01 * np.arange(64)[:, None] / 64
    g = consensus_map([[0.25, 0.0, 0.75, 1.0]], 64, 64)
    assert ciou(brighter_part(-x), g) > 0.99


def test_success_and_auc_by_hand() -> None:
    """cIoU .6 passes the thresholds 0 … .6: its step has the area .6 + half a step of .05."""
    scores = localisation_scores([0.61, 0.31])
    assert scores.success.value == 0.5
    assert scores.auc.value == pytest.approx((0.625 + 0.325) / 2)
    assert scores.mean.value == pytest.approx(0.46)
    curve = [np.mean([c >= t for c in (0.61, 0.31)]) for t in np.linspace(0, 1, 21)]
    assert scores.auc.value == pytest.approx(np.trapezoid(curve, dx=0.05))


def test_the_threshold_itself_counts() -> None:
    assert localisation_scores([0.5, 0.5]).success.value == 1.0
    assert localisation_scores(np.ones(3)).auc.value == pytest.approx(1.0)
    assert localisation_scores(np.zeros(3)).auc.value == pytest.approx(0.025)


def test_the_interval_of_the_auc() -> None:
    scores = localisation_scores(np.random.default_rng(2).random(300))
    assert scores.auc.low < scores.auc.value < scores.auc.high


def test_the_centre_of_the_picture_on_the_real_boxes(shared_data: Path) -> None:
    """The paper's own baseline, a centred blob, finds a plausible share of VGG-SS."""
    rows = json.loads((shared_data / "lists/vggss/vggss.json").read_text())
    y, x = np.mgrid[:56, :56] - 27.5
    mask = brighter_part(-(x**2 + y**2))
    cious = []
    for row in rows[::10]:
        boxes = np.clip(np.asarray(row["bbox"], float).reshape(-1, 4), 0, 1)
        g = consensus_map(boxes, 56, 56)
        if g.any():
            cious.append(ciou(mask, g))
    scores = localisation_scores(cious)
    assert len(cious) > 400
    assert 0.1 < scores.success.value < 0.5
    assert scores.success.low < scores.success.value < scores.success.high


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="fractions"):
        consensus_map([[0, 0, 112, 224]], 224, 224)
    with pytest.raises(ValueError, match="no box"):
        ciou(np.ones((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="one shape"):
        ciou(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="share"):
        brighter_part(np.ones((2, 2)), 1.0)
    with pytest.raises(ValueError, match="cIoU"):
        localisation_scores([])
    with pytest.raises(ValueError, match="finite"):
        upsample([[np.nan]], 4, 4)
