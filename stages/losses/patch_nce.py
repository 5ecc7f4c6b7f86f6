"""PatchNCE: what stands at a place should know itself again in the restyled picture.

    s_ij = q_i · k_j, of the patches of one picture
    ℓ    = mean_i −log( e^{s_ii / τ} / (e^{s_ii / τ} + e^{−10 / τ} + Σ_{j≠i} e^{s_ij / τ}) )
    L    = mean over layers of mean over pictures of ℓ

Park et al., Contrastive Learning for Unpaired Image-to-Image Translation, ECCV 2020, Eq. 3. As in
their code, other patches of the same picture alone are negatives, and the patch's own place among
them is not left out but set to −10, which adds e^{−10 / τ}. With N patches that tell nothing apart
the loss is log N: 5.545 for 256.

The identity loss is the same between a real picture and the one painted from it with its own sound.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 0.07
OWN = -10.0


def patch_nce(
    queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float = TEMPERATURE
) -> Tensor:
    """Return L of the unit vectors of each layer, [B, P, D] and its own P and D in each.

    queries: of the painted picture. keys: of the picture that it was painted from; no gradient
    flows to them.
    """
    layers = [_of_layer(q, k, temperature) for q, k in zip(queries, keys, strict=True)]
    return torch.stack(layers).mean()


def _of_layer(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    # Half precision would round the products to steps of 0.004, over the temperature.
    with torch.autocast(q.device.type, enabled=False):
        q, k = q.float(), k.detach().float()
        similarity = q @ k.transpose(1, 2)  # [B, P, P]
        own = similarity.diagonal(dim1=1, dim2=2)  # [B, P]
        on_diagonal = torch.eye(q.shape[1], dtype=torch.bool, device=q.device)
        others = similarity.masked_fill(on_diagonal, OWN)
        logits = torch.cat([own[..., None], others], dim=2).flatten(0, 1) / temperature
        return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
