"""What a text says of the pictures of other clips of its label, told to the sound.

    M^t_ij = softmax_j(s t_i · v'_j)                                     (Eq. 10)
    M^a_ij = softmax_j(s a_i · v'_j)                                     (Eq. 11)
    L_KL = 1/N Σ_i KL(M^t_i ‖ M^a_i) = 1/N Σ_i Σ_j M^t_ij ln(M^t_ij / M^a_ij)   (Eq. 12)

with unit vectors a, t of a clip's sound and text, and v'_j the picture of another clip of clip j's
label, from Lee et al., Robust Sound-Guided Image Manipulation, 2024. Written out, the paper's
Eq. 12 has the diagonal alone, 1/N Σ_i M^t_ii ln(M^t_ii / M^a_ii), which is no divergence: it is
least, and below 0, at M^a_ii = 1, whatever the text says.

Under torch.distributed the rows are those of each process, over the pictures of all.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.losses.info_nce import gathered, own_pairs, unit_length


def weak_pair_kl(
    audio: Tensor,
    text: Tensor,
    weak: Tensor,
    scale: float | Tensor,
    *,
    reading: Literal["rows", "diagonal"] = "rows",
) -> Tensor:
    """Return L_KL of features [N, D], made unit length here; gradients reach `audio` alone.

    weak: v'_j, of the picture that is weakly paired with clip j. scale: s, 1 / temperature; the
    same in both, and learned elsewhere. reading: rows, a divergence; diagonal, literally.
    """
    audio, text, weak = unit_length(audio), unit_length(text), unit_length(weak)
    with torch.autocast(audio.device.type, enabled=False):
        scale = scale.detach() if isinstance(scale, Tensor) else scale
        pictures = gathered(weak).detach()
        log_t = F.log_softmax(scale * text.detach() @ pictures.T, dim=1)  # [N, N of all]
        log_a = F.log_softmax(scale * audio @ pictures.T, dim=1)
        terms = log_t.exp() * (log_t - log_a)
        if reading == "diagonal":
            terms = terms * own_pairs(*terms.shape, device=terms.device)
        return terms.sum() / len(audio)
