"""Why gated recurrences exist: how far gradients reach, and over what horizon a family learns to remember."""
