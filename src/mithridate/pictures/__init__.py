"""Pictures from tables, and a caption for each with the run's own numbers."""
