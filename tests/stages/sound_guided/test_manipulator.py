"""The painter: what each ask starts from and follows, whatever the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avdata.errors import SettingsError
from stages.generation.columns import Starts
from stages.generation.inputs import Sound
from stages.generation.painter import Ask
from stages.generation.rows import interpolation_rows, sweep_rows
from stages.nn.sphere import interpolated
from stages.sound_guided.latent_optimisation import Search
from stages.sound_guided.manipulator import at_once_at
from tests.stages.sound_guided.tiny import SIDE, Ear, manipulator, picture, tone

ASKS = [
    Ask(key="a", sound=tone(300)),
    Ask(key="a", number=1, sound=tone(300)),
    Ask(key="a", sound=tone(5000)),
    Ask(key="b", text="rain"),
    Ask(key="b", sound=tone(300), text="rain"),
    Ask(key="c", picture=picture(5), sound=tone(5000)),
    Ask(key="c", picture=picture(5)),
]


def test_every_ask_has_its_picture_whatever_the_batch() -> None:
    model = manipulator()
    together = model.paint(ASKS, seed=0)
    assert together.shape == (len(ASKS), SIDE, SIDE, 3)
    assert together.dtype == np.uint8
    apart = manipulator(at_once=2).paint(ASKS[::-1], seed=0)[::-1]
    assert np.abs(together.astype(int) - apart).mean() < 0.5
    differ = np.abs(together[:, None].astype(int) - together[None]).mean(axis=(2, 3, 4))
    assert (differ[~np.eye(len(ASKS), dtype=bool)] > 0.5).all()
    assert np.abs(model.paint(ASKS[:1], seed=1)[0].astype(int) - together[0]).mean() > 0.5


def test_large_pictures_are_moved_a_few_at_a_time() -> None:
    assert [at_once_at(side) for side in (64, 256, 512, 1024, 4096)] == [16, 16, 4, 1, 1]


def test_starts_are_noise_or_the_picture_found_again() -> None:
    model = manipulator()
    before = model.before(ASKS, seed=0)
    np.testing.assert_array_equal(before[0], before[2])  # key and number, not the sound
    assert np.abs(before[0].astype(int) - before[1]).mean() > 1
    wanted = picture(5).image.astype(int)
    near, far = (np.abs(before[row] - wanted).mean() for row in (5, 0))
    assert near < 0.5 * far
    np.testing.assert_array_equal(before[5], before[6])
    # A picture alone guides, and what is moved starts at noise.
    plain, own = Ask(key="c", text="x"), ASKS[6]
    guidance = model.guidance([own])
    torch.testing.assert_close(guidance, model.shown([picture(5).image]))
    torch.testing.assert_close(model.starts([own], 0, guidance), model.starts([plain], 0, guidance))


def test_what_is_shared_is_heard_and_searched_once() -> None:
    ear = Ear()
    model = manipulator(embedder=ear)
    searched = []
    invert = model.inverter.invert
    model = replace(model, inverter=_Counted(invert, searched))
    one = tone(300)
    asks = [Ask(key="x", number=n, sound=one, picture=picture(5)) for n in range(3)]
    model.paint(asks, seed=0)
    model.before(asks, seed=0)
    assert ear.heard == 1 + 0
    assert searched == [1]


class _Counted:
    def __init__(self, invert: object, counts: list[int]) -> None:
        self._invert, self._counts = invert, counts

    def invert(self, pictures: torch.Tensor, keys: list[str], seed: int) -> torch.Tensor:
        self._counts.append(len(pictures))
        return self._invert(pictures, keys, seed)  # type: ignore[operator, no-any-return]

    def identity(self) -> dict[str, int]:
        return {"counted": 1}


def test_the_picture_follows_the_guidance() -> None:
    model = manipulator()
    for ask in ASKS[:4]:
        guidance = model.guidance([ask])
        after = model.shown(list(model.paint([ask], seed=0)))
        before = model.shown(list(model.before([ask], seed=0)))
        assert float((after * guidance).sum()) > float((before * guidance).sum()) + 0.1


def test_of_sound_and_text_the_mean_guides() -> None:
    model = manipulator()
    sound, text = model.guidance([ASKS[0], ASKS[3]])
    torch.testing.assert_close(model.guidance([ASKS[4]])[0], interpolated(sound, text, 0.5))


def test_saved_codes_are_starts() -> None:
    plain = manipulator()
    codes = plain.starts(ASKS[:2], 0, plain.guidance(ASKS[:2])) + 0.1
    model = manipulator(codes=codes)
    np.testing.assert_array_equal(model.before(ASKS[:2], 0), plain.pictures_of(codes))
    with pytest.raises(SettingsError, match=r"--codes holds 2 codes, picture 3 was asked for"):
        model.before([Ask(key="a", number=2, text="x")], 0)
    assert model.identity() != plain.identity()


def test_the_best_of_several_starts_is_chosen_by_its_guidance() -> None:
    model = manipulator(search=Search(steps=2, starts=6))
    sound = model.guidance(ASKS[:1])
    best = model.shown(list(model.before(ASKS[:1], 0)))
    first = manipulator()
    others = torch.cat(
        [
            first.shown(list(first.before([Ask(key=f"a/start {n}", sound=tone(300))], 0)))
            for n in range(6)
        ]
    )
    assert float((best * sound).sum()) == pytest.approx(float((others @ sound[0]).max()), abs=0.02)


def test_rows_of_the_shared_commands() -> None:
    model = manipulator()
    starts = Starts(model, [], 2, seed=0)
    (source,) = starts.given()
    rows = sweep_rows(starts, tone(300), [-20, 0])
    assert [row.title for row in rows] == ["300 Hz, -20 dB", "300 Hz, 0 dB"]
    np.testing.assert_array_equal(
        source.images, model.before(starts.asks(sound=tone(5000)), seed=0)
    )
    given = Starts(model, [picture(5), picture(6)], 7, seed=0)
    assert given.headings == ["view 5", "view 6"]
    assert len(given.of(tone(300), "any key")) == 2
    steps = interpolation_rows(model, (tone(300), picture(5)), [0, 0.5, 1], "lerp", 1, 0)
    np.testing.assert_array_equal(
        steps[0].images, model.draw(model.latent(tone(300)), model.noise("300 Hz to view 5", 1, 0))
    )


def test_what_cannot_be_painted_is_refused() -> None:
    model = manipulator()
    with pytest.raises(SettingsError, match="it takes no style, and needs one of them"):
        model.paint([Ask(key="x")], 0)
    with pytest.raises(SettingsError, match="it takes no style"):
        model.paint([Ask(key="x", sound=tone(300), style=picture())], 0)
    deaf = manipulator(embedder=None)
    assert deaf.paint(ASKS[3:4], 0).shape == (1, SIDE, SIDE, 3)
    for what in (lambda: deaf.hears, lambda: deaf.paint(ASKS[:1], 0), lambda: deaf.sound_encoder):
        with pytest.raises(SettingsError, match="finish train_sound_clip, or give"):
            what()
    slow = Sound("slow", np.ones(800, np.float32), 8000)
    with pytest.raises(SettingsError, match="is at 8000 Hz"):
        model.paint([Ask(key="x", sound=slow)], 0)
