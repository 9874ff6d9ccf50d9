"""An embedding of few symbols on a card: a product, and its gradient another.

Where sums have to have one order, a card adds up a symbol's gradients one position after another, and some symbols of
a text are at a tenth of all positions: of 256 symbols at 32,768 positions it takes 2.7 ms (H200), a product hundredths.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEW = 512  # symbols; the product grows with them


class ByProduct(nn.Embedding):
    """Each position's indicator of its symbol times the weights: what looking up gives, to the bit in float32.

    Under autocast it is rounded as products are, and weights that are not finite spoil the rows of all symbols.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            return super().forward(x)
        return indicators(x, self.num_embeddings).to(self.weight.dtype) @ self.weight


def indicators(x: Tensor, size: int) -> Tensor:
    """(...) -> (..., size), true at each position's symbol. torch's one_hot looks at the largest, which is no part of a
    step that is recorded."""
    return x[..., None] == torch.arange(size, device=x.device)


def by_product(model: nn.Module) -> None:
    """Let the embeddings of few symbols in `model` be products where it is on a card."""
    for part in model.modules():
        if type(part) is nn.Embedding and part.num_embeddings <= FEW and plain(part):
            part.__class__ = ByProduct


def plain(part: nn.Embedding) -> bool:
    """Whether it does nothing but look up."""
    return part.padding_idx is None and part.max_norm is None and not (part.scale_grad_by_freq or part.sparse)
