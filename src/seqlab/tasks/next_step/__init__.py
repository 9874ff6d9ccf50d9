"""The next position from those before it."""
