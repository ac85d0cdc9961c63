"""The one message for a value that is not among the known ones."""

from collections.abc import Iterable


def unknown(given: Iterable[str], known: Iterable[str]) -> str:
    """Return ``unknown 'y'; known: a, b, c`` for the first unknown value, else a blank."""
    choices = list(known)
    for value in given:
        if value not in choices:
            return f"unknown {value!r}; known: {', '.join(choices)}"
    return ""
