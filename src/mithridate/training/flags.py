"""How the training of a member ended; all but FITTED have the constant classifier."""

FITTED, EMPTY, UNFITTABLE, DIVERGED = range(4)
FLAGS = ("fitted", "empty", "unfittable", "diverged")
