"""What a user can correct: the base of such errors, and the message for an unknown value."""

from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can correct; the message is one line: where, what, and how."""

    code = 2  #: The exit status of the command.


def unknown(given: Iterable[str], known: Iterable[str]) -> str:
    """Return ``unknown 'y'; known: a, b, c`` for the first unknown value, else a blank."""
    choices = list(known)
    for value in given:
        if value not in choices:
            return f"unknown {value!r}; known: {', '.join(choices)}"
    return ""
