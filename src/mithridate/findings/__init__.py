"""Published numbers and claims beside what the workflow finds."""
