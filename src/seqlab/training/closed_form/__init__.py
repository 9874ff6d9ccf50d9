"""Fitting in closed form: counts, least squares, EM. `train.train` is the way in; no torch."""
