"""The one exception for what the user can mend."""

from pathlib import Path


class InputError(ValueError):
    """Bad input: one sentence that names the key or file, what is wrong, and the remedy."""


def short(value: object) -> str:
    """What came from a file, fit for a message: one line, at most 80 characters."""
    text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def brief(error: BaseException) -> str:
    """The first line of another library's error."""
    lines = str(error.args[-1] if error.args else "").splitlines()
    return short(lines[0] if lines else type(error).__name__)


def unwritten(path: str | Path, error: OSError) -> str:
    """The sentence for a file that the file system refuses to write (no space, no permission)."""
    reason = error.strerror or error
    return f"{path} could not be written ({reason}): free space or mend the permissions, then run again."
