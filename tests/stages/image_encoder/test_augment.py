"""Augmentations against Pillow, colorsys, SciPy and values worked out by hand."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from stages.image_encoder.augment import (
    Distortion,
    blur,
    crop,
    distort,
    grey,
    jitter,
    random_boxes,
    random_crop,
    turn_hue,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 2, side: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, side, side, generator=generator(seed))


def test_the_whole_box_is_the_picture_and_its_mirror_image() -> None:
    x = pictures()
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)
    seen = crop(x, whole, 16, torch.tensor([False, True]))
    torch.testing.assert_close(seen[0], x[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[1], x[1].flip(-1), atol=1e-5, rtol=0)


def test_a_box_on_pixel_borders_is_a_slice() -> None:
    x = pictures(1)
    box = torch.tensor([[4 / 16, 2 / 16, 8 / 16, 8 / 16]])  # left, top, width, height
    torch.testing.assert_close(crop(x, box, 8), x[:, :, 2:10, 4:12], atol=1e-5, rtol=0)


def test_enlarging_is_that_of_pillow() -> None:
    # Enlarging only, where Pillow's filter has no antialiasing; away from the box's edges, where
    # Pillow, unlike this crop, knows nothing of the pixels beyond.
    x = pictures(1)
    left, top, width, height = 3.0, 1.0, 9.0, 7.0
    seen = crop(x, torch.tensor([[left, top, width, height]]) / 16, 32)
    for channel in range(3):
        plane = Image.fromarray(x[0, channel].numpy())
        box = (left, top, left + width, top + height)
        wanted = np.asarray(plane.resize((32, 32), Image.Resampling.BILINEAR, box=box))
        np.testing.assert_allclose(seen[0, channel, 4:-4, 4:-4], wanted[4:-4, 4:-4], atol=1e-5)


def test_boxes_lie_within_and_have_the_asked_area_and_aspect() -> None:
    boxes = random_boxes(4000, (0.05, 0.5), generator())
    left, top, width, height = boxes.unbind(1)
    assert (boxes >= 0).all()
    assert (left + width <= 1 + 1e-6).all()
    assert (top + height <= 1 + 1e-6).all()
    area, aspect = width * height, width / height
    assert 0.05 <= area.min() < 0.06
    assert 0.49 < area.max() <= 0.5 + 1e-6
    assert area.mean().item() == pytest.approx(0.275, abs=4 * 0.45 / math.sqrt(12 * 4000))
    assert aspect.min() >= 3 / 4 - 1e-5
    assert aspect.max() <= 4 / 3 + 1e-5
    assert aspect.log().mean().item() == pytest.approx(0, abs=0.02)


def test_the_whole_picture_where_nothing_fits() -> None:
    boxes = random_boxes(50, (1.0, 1.0), generator(), aspect=(1.2, 1.3))
    torch.testing.assert_close(boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(50, 1))


def test_half_of_the_crops_are_mirrored() -> None:
    ramp = torch.linspace(0, 1, 16).expand(2000, 3, 16, 16)
    seen = random_crop(ramp, 8, (0.5, 1.0), generator())
    falling = (seen[:, 0, 4, 0] > seen[:, 0, 4, -1]).float().mean()
    assert falling.item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2000))


def test_hue_is_that_of_colorsys() -> None:
    x = pictures(3, 4)
    x[0, :, 0, 0] = 0.5  # grey has no hue, and stays
    x[0, :, 0, 1] = 0.0
    turns = torch.tensor([-0.13, 0.0, 0.4])
    found = turn_hue(x, turns.view(-1, 1, 1, 1))
    for b in range(3):
        for i in range(4):
            for j in range(4):
                hue, saturation, value = colorsys.rgb_to_hsv(*x[b, :, i, j].tolist())
                wanted = colorsys.hsv_to_rgb((hue + turns[b].item()) % 1, saturation, value)
                np.testing.assert_allclose(found[b, :, i, j], wanted, atol=1e-5)


def test_grey_is_that_of_pillow() -> None:
    x = (pictures(1) * 255).round()
    wanted = Image.fromarray(x[0].permute(1, 2, 0).byte().numpy()).convert("L")
    np.testing.assert_allclose(grey(x)[0, 0], np.asarray(wanted), atol=0.51)


def test_jitter_by_hand() -> None:
    # Two pixels: luma 0.299 and 0.587, mean 0.443.
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).view(1, 3, 1, 2)
    one = torch.ones(1)
    half = torch.tensor([0.5])
    torch.testing.assert_close(jitter(x, [one] * 4, [0, 1, 2, 3]), x)
    torch.testing.assert_close(jitter(x, [half, one, one, one], [0]), x / 2)
    torch.testing.assert_close(jitter(x, [one, half, one, one], [1]), x / 2 + 0.443 / 2)
    torch.testing.assert_close(jitter(x, [one, one, 0 * one, one], [2]), grey(x).expand(1, 3, 1, 2))
    turned = jitter(x, [one, one, one, one + 1 / 3], [3])  # red to green, green to blue
    torch.testing.assert_close(turned, x.roll(1, dims=1), atol=1e-5, rtol=0)
    assert jitter(x, [3 * one, one, one, one], [0]).max() == 1  # clipped


@pytest.mark.parametrize("sigma", [0.4, 1.0, 1.7])
def test_blur_is_that_of_scipy(sigma: float) -> None:
    x = pictures(1, 20)
    found = blur(x, torch.tensor([sigma]), radius_px=6)
    wanted = gaussian_filter(
        x[0].double().numpy(), (0, sigma, sigma), mode="mirror", radius=(0, 6, 6)
    )
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)


def test_blur_of_nothing_and_of_small_pictures() -> None:
    x = pictures(2, 4)
    seen = blur(x, torch.tensor([0.0, 2.0]), radius_px=6)
    assert torch.equal(seen[0], x[0])
    assert seen[1].std() < x[1].std()


def test_without_chance_nothing_changes_and_with_it_the_seed_decides() -> None:
    x = pictures(8)
    still = Distortion(jitter_chance=0, grey_chance=0, blur_chance=0)
    torch.testing.assert_close(distort(x, still, generator()), x, atol=1e-5, rtol=0)
    some = distort(x, Distortion(), generator(1))
    assert torch.equal(some, distort(x, Distortion(), generator(1)))
    assert not torch.equal(some, distort(x, Distortion(), generator(2)))
    assert some.min() >= 0
    assert some.max() <= 1


def test_the_asked_share_is_grey() -> None:
    how = Distortion(jitter_chance=0, grey_chance=0.2, blur_chance=0)
    seen = distort(pictures(2000, 4), how, generator())
    is_grey = (seen.amax(dim=1) - seen.amin(dim=1)).amax(dim=(1, 2)) < 1e-6
    assert is_grey.float().mean().item() == pytest.approx(0.2, abs=4 * 0.4 / math.sqrt(2000))


@pytest.mark.parametrize(
    "wrong", [{"grey_chance": 1.5}, {"jitter": -0.1}, {"jitter": 2.0}, {"blur_max_px": 0.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Distortion(**wrong)
