"""Where an identity is asked for there must be a face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avdata.errors import SettingsError
from stages.generation.painter import Ask
from stages.sound_guided.faces import FACES, OTHERS, face_shares, require_faces
from stages.sound_guided.latent_optimisation import Search
from tests.stages.sound_guided.tiny import DIM, Eye, manipulator


class Judge:
    """Sees how bright a picture is: faces are bright."""

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        angles = [np.pi / 2 * image.mean() / 255 for image in images]
        return np.float32([[np.sin(angle), np.cos(angle)] for angle in angles])

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.float32([[1, 0] if text in FACES else [0, 1] for text in texts])


def test_the_share_is_a_softmax_over_prompts() -> None:
    images = [np.full((4, 4, 3), level, np.uint8) for level in (255, 128, 0)]
    bright, half, dark = face_shares(Judge(), images)
    angle = np.pi / 2 * 128 / 255
    odds = len(FACES) / len(OTHERS) * np.exp(100 * (np.sin(angle) - np.cos(angle)))
    assert (bright, dark) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    assert half == pytest.approx(odds / (1 + odds), rel=1e-4)
    require_faces(Judge(), images[:1])
    with pytest.raises(SettingsError, match=r"1 of 3 pictures show no face, number 3 first"):
        require_faces(Judge(), [images[0], images[0], images[2]])


class Seeing(Eye):
    """Knows faces by what it is told."""

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found = np.zeros((len(texts), DIM), np.float32)
        found[:, 0] = [1 if text in FACES else 0 for text in texts]
        return found

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        found = np.zeros((len(images), DIM), np.float32)
        found[:, 0] = -1
        return found


def faces(pictures: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(pictures.flatten(1), dim=1)


def test_identities_are_held_where_there_is_one() -> None:
    held = Search(steps=10, identity_weight=5.0, reg_weight=0.0)
    ask = [Ask(key="a", text="x")]
    strict = manipulator(space=Seeing(), faces=faces, search=held)
    with pytest.raises(SettingsError, match=r"--identity-weight 0, give aligned faces"):
        strict.paint(ask, 0)
    told = replace(strict, check_faces=False, space=Eye())
    free = replace(told, search=replace(held, identity_weight=0.0))
    before = told.before(ask, 0)
    moved = [np.abs(one.paint(ask, 0).astype(int) - before).mean() for one in (told, free)]
    assert moved[0] < 0.5 * moved[1]
