"""Hidden positions from both sides (Devlin et al. 2019)."""
