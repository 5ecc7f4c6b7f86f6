"""What the AVStyle trainer may be told: networks, losses and ablations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avdata.strict import section, setting
from stages.engine.settings import TrainSettings, bounded

WEIGHTS = {"nce": (0.5, 0.5), "cycle": (10.0, 5.0)}  # of consistency and identity, as published


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """As the paper trains: 50 epochs in batches of 16."""

    batch_size: int = setting(16, "Clips of one update, over all GPUs and micro-batches together.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Networks, losses and what is told; the defaults are the paper's."""

    train: Train = section(Train, "Epochs, batch, precision, checkpoints.")
    content_shards: str | None = setting(
        None, "Folder of the pictures that are restyled; null: of the pairs.", path="optional"
    )
    held_out: str | None = setting("val", "Split to evaluate on; null: none is.")
    frames_per_clip: int = setting(
        8, "How often an epoch shows each clip of the larger folder, each time one frame by chance."
    )
    resolution_px: int = setting(256, "Side of the pictures, a multiple of 4.")
    load_px: int | None = setting(
        None, "Side from which it is cropped in training; null: 286/256 of it."
    )
    condition: Literal["sound", "classes", "keyword"] = setting(
        "sound",
        "What the generator is told. Baselines: classes, that YAMNet heard in the clip; keyword, "
        "the clip's labels.",
    )
    word_vectors: str | None = setting(
        None,
        "Of classes and keyword: text file of word vectors; null: a table is learnt.",
        path=True,
    )
    enters: Literal["concat", "film"] = setting(
        "concat", "How that enters. concat: beside the features; film: by scales and shifts."
    )
    fusion: Literal["early", "late"] = setting(
        "early",
        "How the discriminator is told of the sound: its spectrogram beside the colours, or the "
        "vector behind the last norm; classes and keyword are vectors always.",
    )
    mismatched: bool = setting(
        False, "Real pictures with another clip's sound count as fake, half of the fakes."
    )
    consistency: Literal["nce", "cycle"] = setting(
        "nce", "What keeps the content: PatchNCE, or the way back by a second generator."
    )
    consistency_weight: float | None = setting(
        None, "λ, its weight beside the discriminator's; null: 0.5 of nce, 10 of cycle."
    )
    identity_weight: float | None = setting(
        None,
        "μ, the weight of the same loss of a picture restyled by its own sound, of cycle their "
        "difference; 0: none (with consistency_weight 1, as published); null: 0.5, 5 of cycle.",
    )
    patches: int = setting(256, "Patches that PatchNCE compares in each layer.")
    temperature: float = setting(0.07, "Of PatchNCE.")
    pool_size: int = setting(50, "Of cycle: painted pictures that are shown again.")
    lr: float = setting(2e-4, "Learning rate of Adam, of all networks.")
    decay_epochs: int = setting(20, "The last of the epochs, in which the rate falls.")
    decay: Literal["published", "zero"] = setting(
        "published",
        "published: by the epoch, to 1/(decay_epochs + 1) in the last; zero: by the step, to 0.",
    )
    width: int = setting(64, "Channels of the generator's first layer.")
    blocks: int = setting(9, "Residual blocks of the generator.")
    discriminator_width: int = setting(64, "Channels of the discriminator's first layer.")
    discriminator_layers: int = setting(3, "Its layers between the first and the last.")
    sound_dim: int = setting(256, "Length of the vector that the generator is told.")
    arch: str = setting(
        "resnet18", "Trunk of the sound encoder: resnet18, resnet9, resnet50 or tiny."
    )
    sound_width: int | None = setting(
        None, "Channels of its first layer; null: as the trunk has them."
    )
    init_from: str | None = setting(
        None,
        "Start the sound encoder from a training's folder or .safetensors (train_avstyle, "
        "train_sound2scene), or the published checkpoint of Sound2Scene, Wav2CLIP or SeLaVi.",
        path=True,
    )
    sync_batch_norm: bool = setting(
        True, "Batch norm of the sound encoder over all GPUs; on the CPU each rank's own."
    )

    def __post_init__(self) -> None:
        bounded(self, "frames_per_clip", "resolution_px", "patches", "temperature", above=0)
        bounded(self, "pool_size", "width", "discriminator_width", "sound_dim", above=0)
        bounded(self, "discriminator_layers", "sound_width", above=0)
        bounded(self, "lr", "decay_epochs", "consistency_weight", "identity_weight", least=0)
        bounded(self, "blocks", least=3)
        if self.resolution_px % 4 or self.resolution_px < 8:
            raise ValueError(
                f"resolution_px must be a multiple of 4 from 8 on, got {self.resolution_px}"
            )
        if self.load_px is not None and self.load_px < self.resolution_px:
            raise ValueError(
                f"load_px must be at least resolution_px, {self.resolution_px}, got {self.load_px}"
            )
        if self.init_from is not None and self.condition != "sound":
            raise ValueError(
                f"init_from is of the sound encoder, and condition {self.condition} has none"
            )
        if self.decay_epochs > self.train.epochs:
            raise ValueError(
                f"decay_epochs must be at most train.epochs, {self.train.epochs}, got "
                f"{self.decay_epochs}"
            )

    @property
    def weights(self) -> tuple[float, float]:
        """λ and μ."""
        given = (self.consistency_weight, self.identity_weight)
        of_kind = WEIGHTS[self.consistency]
        weigh, identity = (d if g is None else g for g, d in zip(given, of_kind, strict=True))
        return weigh, identity
