"""Fitting what is made of trained models."""
