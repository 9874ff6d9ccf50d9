"""Each source text's translation."""
