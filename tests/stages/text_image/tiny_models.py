"""Small random text-image models, saved in the layout of the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.engine import torchaudio_guard

torchaudio_guard.install()
transformers = pytest.importorskip("transformers")

TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
LETTERS = "abcdefghijklmnopqrstuvwxyz ,"


def letters_vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return vocabulary and merges of lower-case letters in CLIP's layout."""
    tokens = [*LETTERS, *(f"{c}</w>" for c in LETTERS), "oc", "oce", "<|startoftext|>"]
    return {token: i for i, token in enumerate([*tokens, "<|endoftext|>"])}, ["o c", "oc e"]


def save_clip(folder: Path, vocab: dict[str, int], merges: list[str]) -> Path:
    """Save a small random CLIP: 64 px, 16 features."""
    end = vocab["<|endoftext|>"]
    marks = {
        "bos_token_id": vocab["<|startoftext|>"],
        "eos_token_id": end,
        "pad_token_id": end,
    }
    config = transformers.CLIPConfig(
        text_config={**TOWER, "vocab_size": len(vocab), **marks},
        vision_config={**TOWER, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return folder


def save_siglip(folder: Path, kind: str) -> Path:
    """Save a small random SigLIP or SigLIP 2 (`siglip2`): 64 px, 32 features, 16 tokens."""
    text: dict[str, Any] = {**TOWER, "vocab_size": 64, "max_position_embeddings": 16}
    vision: dict[str, Any] = {**TOWER, "patch_size": 16}
    torch.manual_seed(0)
    if kind == "siglip":
        vision["image_size"] = 64
        config = transformers.SiglipConfig(text_config=text, vision_config=vision)
        transformers.SiglipModel(config).save_pretrained(folder)
    else:
        vision["num_patches"] = 16
        config = transformers.Siglip2Config(text_config=text, vision_config=vision)
        transformers.Siglip2Model(config).save_pretrained(folder)
    (save_word_tokenizer if kind == "siglip" else save_letter_tokenizer)(folder)
    return folder


def save_letter_tokenizer(folder: Path) -> None:
    """Save a tokenizer of single letters of SigLIP 2's own class."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = ["▁", "n", "o", "w", "i", "r", "s", "f", "e"]
    vocab = {token: i for i, token in enumerate([*marks, *letters])}
    transformers.Siglip2Tokenizer(vocab=vocab, merges=[], padding_side="right").save_pretrained(
        folder
    )


def save_word_tokenizer(folder: Path) -> None:
    """Save a tokenizer of a few words that ends each text, as tokenizer.json."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", "a", "photo", "of", "snow", "fire", "river", "crunch"]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
