"""The sound-source localizer: what is seen, what is heard, and where the two agree.

After Senocak et al., Less Can Be More: Sound Source Localization With a Classification Model,
WACV 2022: a network that sees and one that hears, trained by nothing but sound-event
classification, localise by the similarity of their features. Here both share their classifier, so
that they share their space.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.audio.spec import AudioSpec
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD
from avdata.scorers.localizer import METADATA_KEY, VERSION
from avdata.store import Store
from avdata.strict import to_tree
from stages.nn.resnet import make_trunk

ONNX_OPSET = 17
STRIDES = {"tiny": (1, 2, 1, 1)}  # of the image network: maps of 8 × 8 from 64 px
FINE_STRIDES = (1, 2, 2, 1)  # maps of 14 × 14 from 224 px


class Localised(NamedTuple):
    """What the localizer finds in T time steps."""

    q_v: Tensor  # [T, D], unit length
    q_a: Tensor  # [T, D], unit length
    map: Tensor  # [T, h, w], cosines
    logits_v: Tensor  # [T, n_classes], from the picture alone
    logits_a: Tensor  # [T, n_classes], from the sound alone


class Localizer(nn.Module):
    """Two trunks, one space of D = embed_dim and one cosine classifier.

        map[t, x]    = v[t, x] · q_A[t]           v: unit features of the picture at each place x
        q_V[t]       = unit(Σ_x α[t, x] v[t, x])  α: softmax over x of map / τ, τ = temperature;
                                                  uniform with pooling "average"
        logits_A[t]  = scale · q_A[t] · W + b     W: one unit vector per class
        logits_V[t]  = scale · τ log mean_x exp(v[t, x] · W / τ) + b

    so that C[t] = q_V[t] · q_A[t] is a cosine. logits_V never see the sound: an attention trained
    through them could tell the class by the place it looks at. Their smooth maximum lets a small
    source count (Pinheiro & Collobert, From Image-level to Pixel-level Labeling, CVPR 2015).

    scale None: √2 ln(n_classes − 1), 4 at least (Zhang et al., AdaCos, CVPR 2019). A larger one is
    content before sight and sound of a class have met, so C tells less.

    Steps do not depend on each other once in eval mode. The last layers of the image network keep
    their resolution, for a finer map. Sound comes as log mel bands; batch norm on its one channel
    brings them to unit scale.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        arch: str = "resnet18",
        width: int | None = None,
        embed_dim: int = 512,
        pooling: Literal["attention", "average"] = "attention",
        temperature: float = 0.1,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        if n_classes < 1:
            raise ValueError(f"n_classes must be at least 1, got {n_classes}")
        if pooling not in ("attention", "average"):
            raise ValueError(f"pooling must be attention or average, got {pooling!r}")
        if scale is None:
            scale = max(4.0, math.sqrt(2) * math.log(max(n_classes - 1, 1)))
        if temperature <= 0 or scale <= 0:
            raise ValueError(
                f"temperature and scale must be above 0, got {temperature} and {scale}"
            )
        self.pooling, self.temperature, self.scale = pooling, temperature, scale
        strides = STRIDES.get(arch, FINE_STRIDES)
        self.image_trunk = make_trunk(arch, width=width, strides=strides)
        self.image_projection = nn.Conv2d(self.image_trunk.out_channels, embed_dim, 1)
        self.audio_scale = nn.BatchNorm2d(1)
        self.audio_trunk = make_trunk(arch, in_channels=1, width=width)
        self.audio_projection = nn.Linear(self.audio_trunk.out_channels, embed_dim)
        self.classes = nn.Parameter(F.normalize(torch.randn(n_classes, embed_dim), dim=1))
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, frames: Tensor, audio: Tensor) -> Localised:
        """Compare frames [T, 3, H, W] with the sound around each, log mel [T, 1, F, N]."""
        v, q_A = self.see(frames), self.hear(audio)
        q_V, similarity = self.attend(v, q_A)
        return Localised(q_V, q_A, similarity, self.classify_picture(v), self.classify_sound(q_A))

    def hear(self, audio: Tensor) -> Tensor:
        """Return q_A [T, D], of unit length, of log mel patches [T, 1, F, N]."""
        features = self.audio_trunk(self.audio_scale(audio)).mean(dim=(2, 3))
        return F.normalize(self.audio_projection(features), dim=1)

    def see(self, frames: Tensor) -> Tensor:
        """Return v [T, D, h, w], of unit length at each place, of pictures [T, 3, H, W]."""
        return F.normalize(self.image_projection(self.image_trunk(frames)), dim=1)

    def attend(self, v: Tensor, q_A: Tensor) -> tuple[Tensor, Tensor]:
        """Return q_V [T, D] and the map [T, h, w] of v [T, D, h, w] and q_A [T, D]."""
        similarity = (v * q_A[:, :, None, None]).sum(dim=1)
        if self.pooling == "average":
            return F.normalize(v.mean(dim=(2, 3)), dim=1), similarity
        alpha = (similarity.flatten(1) / self.temperature).softmax(dim=1)  # [T, h·w]
        return F.normalize((v.flatten(2) * alpha[:, None]).sum(dim=2), dim=1), similarity

    def classify_sound(self, q_A: Tensor) -> Tensor:
        """Return logits [T, n_classes] of q_A [T, D]."""
        return self.scale * q_A @ F.normalize(self.classes, dim=1).T + self.bias

    def classify_picture(self, v: Tensor) -> Tensor:
        """Return logits [T, n_classes] of v [T, D, h, w]: a smooth maximum over all places."""
        cosines = F.normalize(self.classes, dim=1) @ v.flatten(2)  # [T, n_classes, h·w]
        smooth = (cosines / self.temperature).logsumexp(dim=2) - math.log(cosines.shape[2])
        return self.scale * self.temperature * smooth + self.bias


class _Queries(nn.Module):
    """What an exported localizer gives: q_V, q_A and the map, without the logits."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v, q_A = self.localizer.see(frames), self.localizer.hear(audio)
        q_V, similarity = self.localizer.attend(v, q_A)
        return q_V, q_A, similarity


def export_onnx(
    model: Localizer,
    audio_spec: AudioSpec,
    path: str | Path,
    *,
    image_px: int,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Path:
    """Write the localizer as the file that `select` reads, docs/localizer-contract.md; return it.

    image_px, mean and std describe the pictures the model was trained on, audio_spec its sound.
    The model is left as it is found; the file appears when it is complete.
    """
    import onnx

    path = Path(path)
    names = ["q_V", "q_A", "map"]
    device = model.classes.device
    sample = (
        torch.zeros(2, 3, image_px, image_px, device=device),
        torch.zeros(2, *audio_spec.shape, device=device),
    )
    description = {
        "version": VERSION,
        "image_px": image_px,
        "mean": list(mean),
        "std": list(std),
        "audio": to_tree(audio_spec),
    }
    was_training = model.training
    with Store(str(path.parent)).writing(path.name) as target:
        try:
            # The exporter that traces needs no package beside onnx; it also folds batch norms.
            torch.onnx.export(
                _Queries(model).eval(),
                sample,
                target,
                input_names=["frames", "audio"],
                output_names=names,
                dynamic_axes={name: {0: "T"} for name in ("frames", "audio", *names)},
                opset_version=ONNX_OPSET,
                dynamo=False,
            )
        finally:
            model.train(was_training)
        file = onnx.load(target)
        onnx.helper.set_model_props(file, {METADATA_KEY: json.dumps(description)})
        onnx.save(file, target)
    return path
