"""A direct end of vectors: quantiles of the next H values at once, from the body's output and the last L values.

Nothing is fed back, so that errors do not add up on the way (Ben Taieb et al. 2012, Expert Systems with Applications
39). Each channel's window is read relative to its last value and in units of its own changes, and answered in the same
units (reversible instance normalisation, Kim et al. 2022): series of any level and size are alike.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.ahead import Look

# Of the quantiles, the median in the middle.
LEVELS = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)
MIDDLE = LEVELS.index(0.5)
# Least scale of a window, in units of the standardised series: one that does not move has no unit of its own.
FLOOR = 1e-3


class Windows(NamedTuple):
    """The last L values of N pasts. shape: (N, C, L), newest first, less the last value, in units of `scale`; 0 before
    the beginning. last, scale: (N, C); of an empty past 0 and 1."""

    shape: Tensor
    last: Tensor
    scale: Tensor


class DirectEnd(nn.Module):
    """(N, D), windows -> quantiles (N, C, H, K) in units of a window's scale, relative to its last value:

        median = base + W shape + b + V h,    the others the median plus or minus sums of softplus(b_k + V_k h).

    base: 0, or the same month of the last year, as far as it is known. W (H, L - 1) is shared by the channels, a linear
    highway beside the body (Lai et al. 2018, LSTNet; Zeng et al. 2023, NLinear); V, zero at first, is the body's part.
    """

    season: Tensor
    seasonal: Tensor
    scaled: Tensor
    taken: Tensor

    def __init__(self, channels: int, width: int, look: Look):
        super().__init__()
        self.channels, self.horizon, self.window = channels, look.horizon, look.window
        self.highway = nn.Linear(look.window - 1, look.horizon, bias=False)
        self.leave = nn.Linear(width, channels * look.horizon * len(LEVELS))
        for name, value in (
            ("season", look.season),
            ("seasonal", look.differences == "season"),
            ("scaled", look.scaling == "window"),
            ("taken", False),  # whether forecasts are this end's, and not the samples of the next step
        ):
            self.register_buffer(name, torch.tensor(value))
        with torch.no_grad():
            self.highway.weight.zero_()
            self.leave.weight.zero_()
            self.leave.bias.zero_()

    def read(self, x: Tensor, rows: Tensor, ends: Tensor) -> Windows:
        """The windows of (B, T, C) that end before position `ends` (N,) of `rows` (N,).

        The scale is the root mean square change over a season or, where the past has none, over a step.
        """
        lags = torch.arange(self.window, device=x.device)
        exists = (lags < ends[:, None])[:, None]  # (N, 1, L)
        values = x[rows[:, None], (ends[:, None] - 1 - lags).clamp(min=0)].transpose(1, 2)
        last = torch.where(exists[..., 0], values[..., 0], 0)
        shape = torch.where(exists, values - last[..., None], 0)
        scale = torch.ones_like(last)
        for lag in (1, int(self.season)) if self.scaled else ():
            if lag < self.window:
                known = exists[..., lag:]
                change = torch.where(known, shape[..., :-lag] - shape[..., lag:], 0)
                moved = (change.square().sum(-1) / known.sum(-1).clamp(min=1)).sqrt()
                scale = torch.where(known.any(-1), moved.clamp(min=FLOOR), scale)
        return Windows(shape / scale[..., None], last, scale)

    def base(self, shape: Tensor) -> Tensor:
        """(N, C, L) -> (N, C, H): what the forecast is a difference to."""
        if not self.seasonal:
            return torch.zeros(*shape.shape[:-1], self.horizon, dtype=shape.dtype, device=shape.device)
        steps = torch.arange(self.horizon, device=shape.device)
        return shape[..., self.season - 1 - steps % self.season]

    def forward(self, h: Tensor, shape: Tensor) -> Tensor:
        parts = self.leave(h).float().unflatten(-1, (self.channels, self.horizon, len(LEVELS)))
        median = self.base(shape) + self.highway(shape[..., 1:]).float() + parts[..., MIDDLE]
        gaps = F.softplus(parts)
        below = gaps[..., :MIDDLE].flip(-1).cumsum(-1).flip(-1)
        above = gaps[..., MIDDLE + 1 :].cumsum(-1)
        quantiles: Tensor = median[..., None] + torch.cat([-below, torch.zeros_like(median)[..., None], above], -1)
        return quantiles

    @torch.no_grad()
    def begin(self, shape: Tensor, future: Tensor, penalty: float) -> None:
        """Take the ridge regression of futures (N, C, H) on shapes (N, C, L), both in units of the windows' scales, as
        the highway, and the quantiles of what it leaves as the biases."""
        x, y = shape[..., 1:].flatten(0, 1).double(), (future - self.base(shape)).flatten(0, 1).double()
        middle, mean = x.mean(0), y.mean(0)
        covariance = (x - middle).T @ (x - middle) / len(x)
        covariance += penalty * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=x.dtype)
        slopes = torch.linalg.solve(covariance, (x - middle).T @ (y - mean) / len(x))
        self.highway.weight.copy_(slopes.T)
        levels = torch.tensor(LEVELS, dtype=x.dtype)
        quantiles = torch.quantile(y - x @ slopes, levels, dim=0).T  # (H, K)
        biases = torch.log(torch.expm1(torch.diff(quantiles).clamp(min=FLOOR)))
        biases = torch.cat([biases[:, :MIDDLE], quantiles[:, MIDDLE, None], biases[:, MIDDLE:]], 1)
        self.leave.bias.copy_(biases.expand(self.channels, -1, -1).flatten())


def quantile_loss(quantiles: Tensor, truth: Tensor) -> Tensor:
    """(..., K), (...) -> (...): twice the pinball loss, averaged over LEVELS."""
    levels = torch.tensor(LEVELS, device=truth.device)
    error = truth[..., None] - quantiles
    return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)


def paths(quantiles: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """(B, samples or 1, C, H, K) -> (B, samples, H, C): at each step the ranks of a past's paths are given the levels
    1 / (S + 1), ..., S / (S + 1) (Latin hypercube sampling with dependence, Stein 1987), so that their median is the
    forecast's own. Linear between LEVELS, and no further than the outermost. One path alone is the median.

    A path keeps to its rank as a random walk does: steps h < k correlate by sqrt(h / k).
    """
    batch, _, channels, horizon, _ = quantiles.shape
    device = quantiles.device
    known = torch.tensor(LEVELS, device=device)
    asked = (torch.arange(samples, device=device) + 1) / (samples + 1)
    right = torch.searchsorted(known, asked).clamp(1, len(LEVELS) - 1)
    share = ((asked - known[right - 1]) / (known[right] - known[right - 1])).clamp(0, 1)
    walk = torch.randn((batch, samples, channels, horizon), generator=generator, device=device).cumsum(-1)
    rank = walk.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    own = quantiles.expand(-1, samples, -1, -1, -1)
    low, high = (own.gather(-1, index[rank][..., None])[..., 0] for index in (right - 1, right))
    return torch.lerp(low, high, share[rank]).transpose(2, 3)
