"""Where a text-image model lies: the folder of a name, and what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from avdata import weights
from avdata.errors import WeightsError
from avdata.parsing import parse_json
from stages.engine import torchaudio_guard

PATTERNS = ["*.json", "merges.txt", "vocab.txt", "*.model"]  # of a hub's files, beside the weights
ANSWER_S = 3.0  # how long the hub may take to answer at all
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))
"""Files of which a tokenizer can be made: any one of these sets."""


def require_transformers() -> None:
    """Raise WeightsError, with what to do, if transformers is not installed."""
    torchaudio_guard.install()  # transformers imports torchvision where it is installed
    try:
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise WeightsError(
            f"CLIP needs the package transformers ({error}); run: pip install 'avdata[train]'"
        ) from None
    hide: Callable[[], None] = disable_progress_bar  # of reading a file
    hide()


def folder_of(name_or_folder: str | Path) -> Path:
    """Return the folder of a model: as it is given, of the weights table, or of the hub.

    What is here comes first, and without a network the error comes at once. Raises WeightsError.
    """
    found = weights.resolve(name_or_folder)
    if not found.is_dir():
        found = _of_hub(str(name_or_folder))
    missing = [file for file in ("config.json",) if not (found / file).is_file()]
    if not any((found / file).is_file() for file in weight_files(found)):
        missing.append("model.safetensors")
    if not any(all((found / file).is_file() for file in files) for files in VOCABULARIES):
        missing.append("a tokenizer (tokenizer.json, or vocab.json and merges.txt)")
    if missing:
        raise WeightsError(
            f"the folder {found} holds no complete CLIP model: {', '.join(missing)} missing. It "
            "needs config.json, model.safetensors and the tokenizer's files, as "
            "`save_pretrained` writes them"
        )
    return found


def weight_files(folder: Path) -> list[str]:
    """Return the files of weights that a folder may have, whole or in parts."""
    whole = ["model.safetensors", "pytorch_model.bin"]
    return whole + [f"{file}.index.json" for file in whole]


def read_object(file: Path) -> Mapping[str, Any]:
    """Return the object in a JSON file, {} if there is no file; raises WeightsError."""
    if not file.is_file():
        return {}
    try:
        content = parse_json(file.read_bytes())
    except ValueError as error:
        raise WeightsError(
            f"{file} is not readable as JSON ({error}); get the model again"
        ) from None
    if not isinstance(content, dict):
        raise WeightsError(f"{file} holds no JSON object; get the model again")
    return content


def _of_hub(name: str) -> Path:
    """Return the folder of a model on the hub: in its cache, or brought there."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise WeightsError(
            f"the folder {name}, which should hold a CLIP model, does not exist. Give one that "
            "does; where there is a network: hf download openai/clip-vit-base-patch32 --local-dir "
            "FOLDER"
        )
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def brought(**options: Any) -> Path:
        return Path(huggingface_hub.snapshot_download(name, **options))

    try:
        cached = brought(local_files_only=True)
        if any((cached / file).is_file() for file in weight_files(cached)):
            return cached
    except (LocalEntryNotFoundError, ValueError):  # not there; a name that can be none
        pass
    try:
        # One question with a limit: a download would try again for half a minute.
        about = huggingface_hub.model_info(name, timeout=ANSWER_S)
        files = [file.rfilename for file in about.siblings or []]
        kind = "*.safetensors" if any(f.endswith(".safetensors") for f in files) else "*.bin"
        return brought(allow_patterns=[*PATTERNS, kind])
    except Exception as error:  # of the hub's, the transport's and the system's kinds
        answer = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise WeightsError(
        f"CLIP {name!r} is no local folder, not in the hub's cache, and the hub did not give it "
        f"({answer}). Where there is a network, run: hf download {name} --local-dir FOLDER, and "
        "give that folder"
    )
