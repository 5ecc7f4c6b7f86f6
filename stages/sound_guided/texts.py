"""What is said of a label: its name or a text of its own, and the same in other words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avdata.errors import SettingsError
from avdata.parsing import parse_yaml
from avdata.seeding import rng_for
from avdata.strict import setting
from stages.engine.settings import bounded
from stages.sound_guided.text_augment import TextAugment
from stages.sound_guided.wordnet import WEIGHTS, find_wordnet

SHOWN = 3  # labels in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """The texts that sounds are drawn to."""

    file: str | None = setting(
        None,
        "YAML file of texts, `label: text` or `label: [text, text]`, for every label; null: the "
        "labels' names, with spaces for underscores.",
        path=True,
    )
    prompt: str = setting("{}", "What a text is put into, at {}: 'the sound of {}'.")
    variants: int = setting(
        8,
        "Ways in which a text is said, itself among them: synonyms, swaps and, in texts of a file, "
        "insertions; as many features are kept for each. 1: as it is.",
    )
    wordnet: str | None = setting(
        None, "Folder of WordNet, for synonyms; null: this machine's, if it has one.", path=True
    )

    def __post_init__(self) -> None:
        bounded(self, "variants", above=0)
        if self.prompt.count("{}") != 1:
            raise ValueError(f"prompt must hold {{}} once, got {self.prompt!r}")


def class_text(label: str) -> str:
    """Return the name of a class as a text: spaces for underscores."""
    return " ".join(label.replace("_", " ").split())


def label_texts(labels: Iterable[str], settings: TextSettings) -> dict[str, tuple[str, ...]]:
    """Return the texts of each label, in the prompt; the first is what it is told apart by.

    Raises SettingsError for a label without one, and for a file that cannot be read.
    """
    own = sorted(set(labels))
    told = _read(settings.file) if settings.file is not None else None
    found = {
        label: [class_text(label)] if told is None else list(told.get(label, ())) for label in own
    }
    without = [label for label, texts in found.items() if not all(map(str.strip, texts or [""]))]
    if without:
        where = f"in {settings.file}" if told is not None else "in its name"
        raise SettingsError(
            f"{len(without)} of {len(own)} labels have no text {where}: "
            f"{', '.join(map(repr, without[:SHOWN]))}; give them one in texts.file"
        )
    return {
        label: tuple(settings.prompt.replace("{}", text) for text in texts)
        for label, texts in found.items()
    }


def without_synonyms(texts: Mapping[str, Sequence[str]], settings: TextSettings) -> str:
    """Return what is to be known of texts that have no synonyms; empty if at least half have some.

    Raises SettingsError for a folder that is none of WordNet.
    """
    if settings.variants == 1:
        return ""
    wordnet = settings.wordnet if settings.wordnet is not None else find_wordnet()
    if wordnet is None:
        return (
            "no WordNet on this machine: texts are said otherwise by swaps alone; install Debian's "
            f"wordnet-base, or run: avdata weights get {WEIGHTS}"
        )
    augment, every = TextAugment(wordnet), [text for own in texts.values() for text in own]
    unknown = [text for text in every if not augment.knows(text)]
    if 2 * len(unknown) <= len(every):
        return ""
    return (
        f"{len(unknown)} of {len(every)} texts have no synonyms in {wordnet}, such as "
        f"{', '.join(map(repr, unknown[:SHOWN]))}: WordNet knows English alone"
    )


def said_otherwise(
    texts: Mapping[str, Sequence[str]], settings: TextSettings, seed: int
) -> dict[str, tuple[str, ...]]:
    """Return up to `variants` different ways to say each of a label's texts, themselves first.

    They depend on seed and text alone. Raises SettingsError for a folder that is none of WordNet.
    """
    if settings.variants == 1:
        return {label: tuple(own) for label, own in texts.items()}
    wordnet = settings.wordnet if settings.wordnet is not None else find_wordnet()
    # Few words are in the name of a class: an insertion would drown them.
    augment = TextAugment(wordnet, insert=settings.file is not None)

    def ways(text: str) -> list[str]:
        others = [
            augment(text, rng_for(seed, "text", f"{n} {text}")) for n in range(1, settings.variants)
        ]
        return [text, *others]

    return {
        label: tuple(dict.fromkeys([*own, *(way for text in own for way in ways(text))]))
        for label, own in texts.items()
    }


def _read(file: str) -> dict[str, tuple[str, ...]]:
    """Return label → texts of a file; raises SettingsError."""
    try:
        tree = parse_yaml(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the texts in {file}: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{file} holds no `label: text`, one a line")
    found = {}
    for label, told in tree.items():
        texts = told if isinstance(told, list) else [told]
        if not isinstance(label, str) or not all(isinstance(text, str) for text in texts):
            raise SettingsError(
                f"{file}: {str(label)[:80]!r} has no text but {str(told)[:80]!r}; quote what YAML "
                "would read as a number, a date or yes and no"
            )
        found[label] = tuple(texts)
    return found
