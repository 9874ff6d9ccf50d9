"""A class for each sequence."""
