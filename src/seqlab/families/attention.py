"""What the Transformers share: rotary positions (Su et al. 2021) and attention over heads (Vaswani et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def rotation(positions: Tensor, size: int, base: float, dtype: torch.dtype) -> Tensor:
    """(...) -> (..., size / 2, 2): cosine and sine of the angle by which each pair of a head's `size` channels turns.

    In the order of eq. 15. base: the longest wavelength is 2 pi times this.
    """
    # In float64: in float32 the angle of a position in the thousands is off in its third decimal.
    exponents = torch.arange(0, size, 2, device=positions.device, dtype=torch.float64) / size
    angles = positions[..., None] * base**-exponents
    if torch.compiler.is_compiling():  # which has no code for complex numbers
        return torch.stack([angles.cos(), angles.sin()], -1).to(dtype)
    return torch.view_as_real(torch.polar(torch.ones_like(angles), angles)).to(dtype)


def rotated(x: Tensor, by: Tensor) -> Tensor:
    """(..., C), (..., C / 2, 2) -> (..., C): neighbouring channels are the two parts of a complex number, so that a
    rotation is one multiplication."""
    pairs = x.to(by.dtype).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():
        cosine, sine = by.split(1, -1)
        # (a, b) cos + (b, a) (-sin, sin): nothing is taken apart, so that both ways become a part of what is around.
        turned = pairs * cosine + pairs.flip(-1) * torch.cat([-sine, sine], -1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(by))
    out: Tensor = turned.flatten(-2).to(x.dtype)
    return out


def weights(q: Tensor, k: Tensor, bias: Tensor | None = None, causal: bool = False) -> Tensor:
    """Attention weights, (B, heads, T, d), (B, heads, S, d) -> (B, heads, T, S), rows summing to one.

    bias: added to the scores, (B, 1, 1, S). causal: position t sees positions up to t alone, T = S, without a bias.
    """
    (batch, heads, queries, size), keys = q.shape, k.shape[2]
    if causal:
        added = torch.full((queries, keys), float("-inf"), device=q.device, dtype=q.dtype).triu(1)
    elif bias is None:
        added = q.new_zeros(())
    else:
        added = bias.to(q.dtype).expand(batch, heads, queries, keys).flatten(0, 1)
    scores: Tensor = torch.baddbmm(added, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=size**-0.5)
    shares: Tensor = scores.softmax(-1).unflatten(0, (batch, heads))
    return shares


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, causal: bool = False) -> Tensor:
    """What each position gathers, (B, heads, T, d), with the weights of `weights`."""
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        # The backward pass of the CPU's fused kernel is several times slower in bfloat16 than these plain products.
        return weights(q, k, bias, causal) @ v
    return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype), is_causal=causal)
