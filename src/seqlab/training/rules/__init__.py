"""Fitting a family whose rules are written by hand: what is learned is its lexicon. `train.train` is the way in."""
