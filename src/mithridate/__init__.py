"""Certified defences against poisoned training data, as a reproducible workflow."""

__version__ = "0.1.0"
