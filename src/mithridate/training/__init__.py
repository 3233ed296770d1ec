"""The family trainer: many models of one architecture, each on its own index list."""
