"""How the training of a member ended; all but FITTED and RETRAINED have the constant classifier.

RETRAINED: it diverged and was trained again from other random numbers, as victims of randomized smoothing may be and
members of a certified family never are.
"""

FITTED, EMPTY, UNFITTABLE, DIVERGED, RETRAINED = range(5)
FLAGS = ("fitted", "empty", "unfittable", "diverged", "retrained")
