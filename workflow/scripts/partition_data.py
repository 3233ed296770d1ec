"""Assign every training sample to its partition and order each partition by content."""
