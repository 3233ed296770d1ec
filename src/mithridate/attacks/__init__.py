"""Attacks on training sets and models."""
