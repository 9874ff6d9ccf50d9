"""Sample paths whose marginals are exact: Latin hypercube sampling with dependence (Stein 1987, Technometrics 29).

Correlated noise says how the steps of a path hang together; at each step the ranks of the S paths are then given the
quantiles at levels 1 / (S + 1), ..., S / (S + 1). So the median path is the point forecast, and a quantile of the paths
that is read at Weibull's positions is the forecast's own: neither carries sampling error, whatever the seed or the
batch. One path alone is the median.
"""

from __future__ import annotations

import numpy as np


def levels(noise: np.ndarray) -> np.ndarray:
    """(B, S, ...) noise -> the level k / (S + 1) of each number, k its rank among the S on axis 1."""
    ranks = noise.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    level: np.ndarray = (ranks + 1) / (noise.shape[1] + 1)
    return level


def gaussian(mean: np.ndarray, deviation: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Paths (B, S, ...) of normal marginals. mean, deviation: (B, ...)."""
    from scipy.special import ndtri

    paths: np.ndarray = mean[:, None] + deviation[:, None] * ndtri(levels(noise))
    return paths


def responding(noise: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Path of a linear process: sum over j < h of response_j e_{h-j}, response_0 = 1.

    noise: (B, S, H, C) of innovations e; response: (B, H, C), what an innovation leaves j steps later.
    """
    steps = noise.shape[2]
    ahead = np.arange(steps)[:, None] - np.arange(steps)  # [h, i]: steps from the innovation i to h
    spread = np.where((ahead >= 0)[:, :, None], response[:, np.maximum(ahead, 0)], 0)  # (B, H, H, C)
    paths: np.ndarray = np.einsum("bhic,bsic->bshc", spread, noise, optimize=True)
    return paths
