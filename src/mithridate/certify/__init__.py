"""Certificates: pure functions of arrays, without torch."""
