"""Scores for each example, controls, significance and the report."""
