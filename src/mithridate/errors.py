"""The one exception for what the user can mend."""


class InputError(ValueError):
    """Bad input: one sentence that names the key or file, what is wrong, and the remedy."""
