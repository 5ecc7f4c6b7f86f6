"""Checkpoints: a folder that is there is complete, a weights file describes itself.

checkpoints/step-00001000/NAME.safetensors      weights of each model, and NAME.ema.safetensors
checkpoints/step-00001000/state.pt              all else that an exact resume needs
model.safetensors                               the product: training is complete
NAME.safetensors, complete.json                 the same where there are several products
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError, WeightsError
from avdata.store import Store, explained, temporary_name
from avdata.strict import to_tree
from stages.engine.errors import CheckpointError
from stages.engine.metadata import FORMAT, FORMAT_VERSION, parse_metadata
from stages.models import build as build_registered
from stages.nn.published import read_plain

METADATA_KEY = "avdata"
STATE_NAME = "state.pt"
STATE_FIELDS = {
    **{"step": int, "settings": dict, "sharded": bool},
    **{"optimizers": dict, "states": dict, "rng": list},
}
PRODUCT_NAME = "model.safetensors"
COMPLETE_NAME = "complete.json"
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # of a model: no dots, no folders
FOLDER_PATTERN = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """How a model is built again: its name in the registry, its arguments, how it hears, and
    which encoder made the features that it reads or writes."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # plain JSON values
    audio: AudioSpec | None = None
    features: Mapping[str, Any] | None = None  # plain JSON values

    def metadata(self, **facts: Any) -> dict[str, Any]:
        """Return what stands in the header of a weights file, with facts of this training."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "model": self.name,
            "settings": to_tree(self.settings),
            "audio": to_tree(self.audio),
            "features": to_tree(self.features),  # files from before it was written lack the key
            **facts,
        }


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write one safetensors file, atomically; tensors that share memory are written twice."""
    own = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    beside = path.with_name(temporary_name(path.name))
    try:
        with explained(str(path)):
            text = json.dumps(metadata, sort_keys=True)
            # "format" is what transformers looks for, whose models some products are.
            save_file(own, beside, {METADATA_KEY: text, "format": "pt"})
            _order_metadata(beside)
            _sync(beside)
            os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _order_metadata(file: Path) -> None:
    """Sort what a weights file says of itself, which safetensors writes in any order: the same
    weights make the same bytes. The header is the length of a JSON text, 8 bytes, and this text."""
    with file.open("r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise RuntimeError(f"the header of {file} grew from {length} to {len(text)} bytes")
        opened.seek(8)
        opened.write(text.ljust(length))


def load_weights(
    path: str | os.PathLike[str], product: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return metadata and weights (on the CPU) of a weights file or a finished training's folder.

    product: which one, of a training that has several. Raises CheckpointError if it is missing,
    damaged, or no file of this project.
    """
    file = weights_file(path, product)
    with _opened(file) as opened:
        metadata = _metadata(file, opened)
        names = opened.keys()
        return metadata, {name: opened.get_tensor(name) for name in names}


def read_metadata(path: str | os.PathLike[str], product: str | None = None) -> dict[str, Any]:
    """Return the metadata alone, without reading the weights; raises as `load_weights` does."""
    file = weights_file(path, product)
    with _opened(file) as opened:
        return _metadata(file, opened)


def describes_itself(file: Path) -> bool:
    """Tell whether a weights file says what it holds, as those of this project do."""
    if file.suffix != ".safetensors" or not file.is_file():
        return False
    with _opened(file) as opened:
        return METADATA_KEY in (opened.metadata() or {})


def weights_file(path: str | os.PathLike[str], product: str | None = None) -> Path:
    """Return the file that `path` names: itself, or a product in a finished training's folder.

    product: which one, of a training that has several. Raises CheckpointError if it is not there.
    """
    file = Path(path)
    if file.is_dir():
        folder = file
        names = [] if (folder / PRODUCT_NAME).is_file() else _products(folder)
        if names and product not in names:
            asked = "" if product is None else f", not {product}"
            raise CheckpointError(
                f"the training in {folder} made {', '.join(names)}{asked}; name one of them: "
                f"{folder / names[0]}.safetensors"
            )
        file = folder / (f"{product}.safetensors" if names else PRODUCT_NAME)
    if not file.is_file():
        raise CheckpointError(
            f"there is no {file}: the training that makes it has not finished; run it, or name a "
            "file under its checkpoints/"
        )
    return file


def _products(folder: Path) -> list[str]:
    """Return the names of the products of a training that has several; none if not complete."""
    file = folder / COMPLETE_NAME
    if not file.is_file():
        return []
    try:
        names = json.loads(file.read_bytes())["products"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(
        isinstance(name, str) and FILE_NAME.fullmatch(name) for name in names
    ):
        raise CheckpointError(f"{file} is damaged; remove it and run the training again")
    return names


def publish(folder: Path, products: Mapping[str, Path]) -> list[Path]:
    """Copy products to where others look for them, and say last that they are all; return them.

    products: weights files by name. A single one is called model.safetensors and says so itself.
    """
    store = Store(str(folder))
    names = {name: f"{name}.safetensors" for name in products}
    if len(products) == 1:
        names = dict.fromkeys(products, PRODUCT_NAME)
    for name, file in products.items():
        with store.writing(names[name]) as beside:
            shutil.copyfile(file, beside)
    if len(products) > 1:
        text = json.dumps({"products": sorted(products)})
        store.write_bytes(COMPLETE_NAME, text.encode())
    return [folder / name for name in names.values()]


def unpublish(folder: Path) -> None:
    """Take back the word that a training is complete."""
    for name in (COMPLETE_NAME, PRODUCT_NAME):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); copy or train it again") from None


def _metadata(file: Path, opened: Any) -> dict[str, Any]:
    return parse_metadata((opened.metadata() or {}).get(METADATA_KEY, "{}"), str(file))


def load_model(
    path: str | os.PathLike[str],
    build: Callable[..., nn.Module] = build_registered,
    *,
    product: str | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model that a weights file describes, in eval mode on the CPU; return its metadata.

    build: from a registered name and arguments to a network. product: which one, of a training that
    has several. Raises CheckpointError for a description that makes no network, and for weights
    that do not fit it.
    """
    metadata, weights = load_weights(path, product)
    model = described(metadata, path, build)
    fill(model, weights, path)
    return model.eval(), metadata


def described(
    metadata: Mapping[str, Any],
    where: str | os.PathLike[str],
    build: Callable[..., nn.Module] = build_registered,
) -> nn.Module:
    """Return a new network as a weights file describes it; raises CheckpointError if none can be.

    where: the file, for messages.
    """
    try:
        return build(metadata["model"], **metadata["settings"])
    except Exception as error:  # nonsense for sizes may fail anywhere in a network
        first = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{where} describes no network: {first}; it is damaged, or of another version of this "
            "program"
        ) from error


def fill(model: nn.Module, weights: Mapping[str, Tensor], where: str | os.PathLike[str]) -> None:
    """Give a network its weights; raises CheckpointError if they do not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{where} does not fit the model it names: {error}") from None


def require_audio(metadata: Mapping[str, Any], spec: AudioSpec, where: str) -> None:
    """Raise SettingsError if a model was trained on sound seen through another front-end."""
    trained = AudioSpec.from_json(json.dumps(metadata["audio"])) if metadata["audio"] else None
    if trained != spec:
        seen = "none" if trained is None else trained.to_json()
        raise SettingsError(
            f"{where} was trained with the front-end {seen}, not {spec.to_json()}; give the "
            "settings it was trained with, or another file"
        )


def write_checkpoint(
    folder: Path,
    step: int,
    weights: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]],
    state: Mapping[str, Any],
) -> Path:
    """Write a checkpoint beside and rename it; return its path. An old one of this step gives way.

    weights: tensors and metadata by the name of their file.
    """
    target = folder / f"step-{step:08d}"
    beside = folder / temporary_name(target.name)
    try:
        with explained(str(target)):
            beside.mkdir(parents=True)
            for name, (tensors, metadata) in weights.items():
                save_weights(beside / f"{name}.safetensors", tensors, metadata)
            torch.save(dict(state), beside / STATE_NAME)
            _sync(beside / STATE_NAME)
            if target.exists():
                remove_checkpoint(target)
            os.rename(beside, target)
            _sync(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint so that no part of it is ever taken for a whole one."""
    doomed = path.with_name(temporary_name(path.name))
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the complete checkpoints by step, first to last."""
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    found = ((FOLDER_PATTERN.fullmatch(path.name), path) for path in names)
    return {int(match[1]): path for match, path in found if match}


def read_state(path: Path) -> dict[str, Any]:
    """Return the state of a checkpoint; raises CheckpointError if it is damaged."""
    file = path / STATE_NAME
    try:
        state: Any = read_plain(file)
    except WeightsError as error:
        raise CheckpointError(
            f"{error}; remove {path} to go on from an earlier checkpoint, or start anew with "
            "--fresh"
        ) from None
    if not isinstance(state, dict) or state.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has another format than {FORMAT_VERSION}; start anew with --fresh"
        )
    for name, kind in STATE_FIELDS.items():
        if not isinstance(state.get(name), kind):
            raise CheckpointError(
                f"{file} is damaged ({name} is no {kind.__name__}); remove {path} to go on from an "
                "earlier checkpoint, or start anew with --fresh"
            )
    return dict(state)


def _sync(path: Path) -> None:
    """Make sure that what is renamed next is on the disk, so that a power cut leaves no holes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
