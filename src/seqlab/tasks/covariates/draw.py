"""Forecasting with covariates: drawn as forecasts are."""

from __future__ import annotations

from seqlab.tasks.forecast.draw import draw

__all__ = ["draw"]
