"""A class for every position."""
