"""The ends of a family on vectors: linear in, and out a density of the next vector."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, StudentT
from torch.nn import functional as F

from seqlab.families.gradient.ends import Density, Ends, lagged


class VectorEnds(Ends):
    """Linear in; out a density of the next vector, its channels factorised by the chain rule like all else:

        x_t = a ⊙ x_{t-1} + s_t ⊙ (m_t + u_t),   A u_t = noise.

    Scale s_t and shift m_t come from the body's output. The carry a is a parameter of each channel. Built, it is 1 and
    m_t is 0: the naive forecast. Training begins at the carry of its data (`lag_one`), near 1 where things move
    smoothly, near 0 for returns, and learns on. The shift is in units of the scale: its gradient then has one size
    whatever the scale of a sequence, and where little moves, a poor shift does little harm.

    A is lower triangular with ones on its diagonal: what a channel has in common with those before it, the same at all
    times (the modified Cholesky decomposition of a covariance; Pourahmadi 1999, Biometrika 86). Built, it is the
    identity.
    """

    enter: nn.Linear

    # Least scale, in units of the standardised series: a constant stretch would otherwise have infinite density.
    FLOOR = 1e-3
    # In the same units: a path that explodes when it is fed its own values goes no further, or it would overflow.
    FAR = 1e6

    def __init__(self, channels: int, width: int, density: Density):
        super().__init__(width)
        self.density = density
        self.enter = nn.Linear(channels, width)
        self.leave = nn.Linear(width, channels * (3 if density == "student_t" else 2))
        self.carry = nn.Parameter(torch.ones(channels))
        # Row by row; a single channel has none.
        self.coupling = nn.Parameter(torch.zeros(channels * (channels - 1) // 2)) if channels > 1 else None
        with torch.no_grad():
            # The scale's rows keep their start, so that the body has a gradient of full size from the first step on.
            self.leave.weight[:channels] = 0
            self.leave.bias[:channels] = 0

    def embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.enter(x)
        return h

    def factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T + 1, C + 2) and (C + 2, D), whose product is `inputs`."""
        # Columns: whether it is the start, the values, whether it is a position.
        parts = F.pad(F.pad(x, (0, 1), value=1.0), (1, 0, 1, 0))
        parts[:, 0, 0] = 1
        return parts, torch.cat([self.start[None], self.enter.weight.t(), self.enter.bias[None]])

    def outputs(self) -> list[nn.Parameter]:
        return [*super().outputs(), self.carry, *([] if self.coupling is None else [self.coupling])]

    def predictive(self, h: Tensor, last: Tensor) -> Predictive:
        """(..., D), (..., C) -> the density of the next value."""
        shift, width, *tail = self.leave(h).float().unflatten(-1, (-1, last.shape[-1])).unbind(-2)
        scale = F.softplus(width) + self.FLOOR
        # More than two degrees of freedom, so that the standard deviation exists.
        freedom = 2 + F.softplus(tail[0]) if tail else None
        return Predictive(self.carry * last + scale * shift, scale, freedom, self._matrix())

    def _matrix(self) -> Tensor | None:
        """A, (C, C)."""
        if self.coupling is None:
            return None
        size = len(self.carry)
        row, column = torch.tril_indices(size, size, -1, device=self.coupling.device)
        return torch.eye(size, device=self.coupling.device).index_put((row, column), self.coupling)

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        return self.predictive(h, lagged(x)[:, :-1]).log_prob(x)

    def moments(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, C) -> mean and standard deviation of x_t, each (B, T, C), where h[:, t] has seen x_<t."""
        predictive = self.predictive(h, lagged(x)[:, :-1])
        return predictive.location, predictive.deviation()

    def sample(self, h: Tensor, last: Tensor, generator: torch.Generator) -> Tensor:
        return self.predictive(h, last).draw(generator).clamp(-self.FAR, self.FAR)


@dataclass(frozen=True)
class Predictive:
    """The density of x = location + scale ⊙ u, where A u is noise, independent over channels.

    location, scale: (..., C), float32. freedom: degrees of Student's t, (..., C); None: the noise is normal. matrix: A,
    (C, C), lower triangular, its diagonal ones; None: the identity.
    """

    location: Tensor
    scale: Tensor
    freedom: Tensor | None
    matrix: Tensor | None

    @property
    def noise(self) -> Distribution:
        """Batch shape (..., C)."""
        zero, one = torch.zeros_like(self.location), torch.ones_like(self.location)
        if self.freedom is None:
            return Normal(zero, one, validate_args=False)
        return StudentT(self.freedom, zero, one, validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """(..., C) -> (...): nats. The determinant of A is one."""
        u = (x - self.location) / self.scale
        if self.matrix is not None:
            # A product in bfloat16 would cost the density three of its four digits.
            with torch.autocast(u.device.type, enabled=False):
                u = u @ self.matrix.T
        return (self.noise_log_prob(u) - self.scale.log()).sum(-1)

    def noise_log_prob(self, u: Tensor) -> Tensor:
        """(..., C) nats of each channel's noise, to the bits of torch's own distributions.

        Of Student's t by hand: torch's makes a chi-square at every call, whose constants come from the processor.
        """
        if (freedom := self.freedom) is None:
            return self.noise.log_prob(u)
        scale = 0.5 * freedom.log() + 0.5 * log(pi) + torch.lgamma(0.5 * freedom) - torch.lgamma(0.5 * (freedom + 1.0))
        return -0.5 * (freedom + 1.0) * torch.log1p(u**2.0 / freedom) - scale

    def deviation(self) -> Tensor:
        """(..., C): the standard deviation of each channel on its own."""
        variance = self.noise.variance
        if self.matrix is not None:
            variance = variance @ torch.linalg.inv(self.matrix).square().T
        return self.scale * variance.sqrt()

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """(..., C); without a generator from torch's own."""
        shape, device = self.location.shape, self.location.device
        if self.freedom is None:
            u = torch.randn(shape, generator=generator, device=device)
        else:
            # Bailey (1994), Mathematics of Computation 62: the polar method for Student's t, exact for any degrees of
            # freedom; torch's own sampler takes no generator. 1 - v lies in (0, 1], where the logarithm is finite.
            v, w = torch.rand((2, *shape), generator=generator, device=device, dtype=torch.float64)
            radius = torch.sqrt(self.freedom * torch.expm1(-2 / self.freedom * torch.log1p(-v)))
            u = (radius * torch.cos(2 * pi * w)).float()
        if self.matrix is not None:
            u = torch.linalg.solve_triangular(self.matrix, u[..., None], upper=False)[..., 0]
        return self.location + self.scale * u
