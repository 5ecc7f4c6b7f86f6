"""What the family's own commands make, as rows of a contact sheet: source, result, difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from stages.generation.columns import Starts
from stages.generation.inputs import Picture, Sound
from stages.generation.rows import heard_panel, resized, size_of
from stages.generation.sheets import SheetRow, picture_panel, share_panel
from stages.generation.sounds import fit
from stages.nn.pictures import as_images
from stages.nn.sphere import interpolated
from stages.sound_guided.codes import mixed_layers
from stages.sound_guided.latent_optimisation import Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from stages.sound_guided.manipulator import Manipulator

Between = Literal["codes", "guidance"]
GREY = 128


def text_rows(model: Manipulator, starts: Starts, texts: Sequence[str]) -> list[SheetRow]:
    """Return pictures moved by each text: the paper's text-guided baseline."""
    return [
        SheetRow(
            title=text,
            note="text",
            images=model.paint(starts.asks(text=text), starts.seed),
            headings=starts.headings,
            facts={"text": text},
        )
        for text in texts
    ]


def fused_rows(
    model: Manipulator,
    starts: Starts,
    sound: Sound,
    text: str,
    shares: Sequence[float],
    between: Between,
) -> list[SheetRow]:
    """Return pictures between a sound's and a text's, one row for each share α of the text.

    Eq. 19: codes are mixed, (1 − α) w_a + α w_t, of two searches; or, between guidance, each row is
    a search of its own. α = 0 is the sound.
    """
    by_sound, by_text = (
        model.guidance(starts.asks(sound=sound)),
        model.guidance(starts.asks(text=text)),
    )
    codes = model.starts(starts.asks(sound=sound), starts.seed, by_sound)
    ends: list[Tensor] = []
    if between == "codes":
        ends = [model.moved(guidance, codes).ws for guidance in (by_sound, by_text)]
    rows = []
    for share in shares:
        if between == "codes":
            images = model.pictures_of(ends[0].lerp(ends[1], share))
        else:
            direction = interpolated(by_sound[0], by_text[0], share)
            images = model.moved_pictures(direction.expand_as(by_sound), codes)
        rows.append(
            SheetRow(
                title=f"{1 - share:.0%} {sound.name} · {share:.0%} “{text}”",
                note=f"between {between}",
                panel=share_panel(share, (sound.name, text), size_of(model)),
                images=images,
                headings=starts.headings,
                facts={"share": share, "between": between, "sound": sound.name, "text": text},
            )
        )
    return rows


def style_mix_rows(model: Manipulator, starts: Starts, sound: Sound, text: str) -> list[SheetRow]:
    """Return pictures by a sound, by a text, and with the first half of the sound's latents."""
    found = []
    for asks in (starts.asks(sound=sound), starts.asks(text=text)):
        guidance = model.guidance(asks)
        found.append(model.moved(guidance, model.starts(asks, starts.seed, guidance)).ws)
    half = found[0].shape[1] // 2
    both = f"layers 1 to {half} {sound.name}, {half + 1} to {2 * half} “{text}”"
    titles = (sound.name, text, both)
    codes = (*found, mixed_layers(*found))
    return [
        SheetRow(
            title=title,
            images=model.pictures_of(ws),
            headings=starts.headings,
            facts={"sound": sound.name, "text": text},
        )
        for title, ws in zip(titles, codes, strict=True)
    ]


def traced(
    model: Manipulator, starts: Starts, sound: Sound | None, text: str | None, frames: int
) -> tuple[list[SheetRow], list[NDArray[np.uint8]]]:
    """Return a row for each start, from source to result and what has changed, and its film.

    frames: pictures of a film, from the source to the result. A film is uint8 [frames, R, R, 3].
    """
    steps = model.search.steps
    shown_at = sorted(
        {1 + round(n * steps / (frames - 1)) for n in range(frames - 1)} - {steps + 1}
    )
    kept: dict[int, list[NDArray[np.uint8]]] = {step: [] for step in shown_at}
    watch = Watch(shown_at, lambda step, pictures: kept[step].append(as_images(pictures)))
    asks = starts.asks(sound=sound, text=text)
    guidance = model.guidance(asks)
    moved = model.moved(guidance, model.starts(asks, starts.seed, guidance), watch)
    stacked = [np.concatenate(kept[step]) for step in shown_at] + [as_images(moved.pictures)]
    films = list(np.stack(stacked, axis=1))  # [frames, R, R, 3] of each start
    panel = None if sound is None else heard_panel(model, fit(sound, model.spec))
    rows = []
    for number, film in enumerate(films):
        some = np.linspace(0, len(film) - 1, min(5, len(film))).round().astype(int)
        before, after = (float(moved.similarity[at, number]) for at in (0, -1))
        steps_of = [*shown_at, steps + 1]
        rows.append(
            SheetRow(
                title=starts.headings[number] if starts.headings else f"start {number}",
                note=f"cosine to the guidance {before:.3f} to {after:.3f}",
                panel=panel,
                images=np.stack([*film[some], difference(film[0], film[-1])]),
                headings=[*_headings([steps_of[at] - 1 for at in some], steps), "difference"],
                facts={
                    "sound": None if sound is None else sound.name,
                    "text": text,
                    "similarity": moved.similarity[:, number].tolist(),
                    "loss": moved.loss[:, number].tolist(),
                },
            )
        )
    return rows, films


def _headings(done: Sequence[int], steps: int) -> list[str]:
    """Return what stands over pictures after so many updates."""
    names = {0: "source", steps: "result"}
    return [names.get(number, f"step {number}") for number in done]


def difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return how pictures [H, W, 3] differ, around grey; the largest change is black or white."""
    change = after.astype(np.float64) - before
    scaled = GREY + change * (GREY - 1) / max(np.abs(change).max(), 1)
    shown: NDArray[np.uint8] = scaled.round().astype(np.uint8)
    return shown


def inverted_rows(
    model: Manipulator, pictures: Sequence[Picture], seed: int
) -> tuple[list[SheetRow], Tensor]:
    """Return of each picture what it is, what was found and the difference; codes [N, L, W]."""
    codes = model.inverted(pictures, seed)
    rows = []
    for picture, made in zip(pictures, model.pictures_of(codes), strict=True):
        given = resized(model, picture)
        error = (made.astype(np.float64) - given) / 255
        psnr_db = -10 * float(np.log10(max(float(np.square(error).mean()), 1e-10)))
        rows.append(
            SheetRow(
                title=picture.name,
                note=f"found again: {psnr_db:.1f} dB PSNR",
                panel=picture_panel(picture.image, size_of(model)),
                images=np.stack([given, made, difference(given, made)]),
                headings=("given", "found again", "difference"),
                facts={"image": picture.name, "psnr_db": psnr_db},
            )
        )
    return rows, codes
