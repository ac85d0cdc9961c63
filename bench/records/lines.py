"""Messages in one line: of a text, of an exception, of a process that failed."""

import re
import signal

#: Characters of a message.
LONGEST = 300
#: Control characters, changes of writing direction, and what XML 1.0 cannot hold.
CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ufffe\uffff\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def has_breaks(name: str) -> bool:
    """Whether a name would end a line, or be acted on by a terminal: no message may print it."""
    return _BREAKS.search(name) is not None


def one_line(text: str) -> str:
    """Return the first line of a text that is not blank, whitespace folded, cut at `LONGEST`."""
    lines = (" ".join(line.split()) for line in text.splitlines() if line.strip())
    return shortened(next(lines, ""), LONGEST)


def printable(text: str) -> str:
    """Return a text in one line, without characters that a terminal or a log acts on."""
    return CONTROLS.sub("?", text)


def shortened(text: str, limit: int) -> str:
    """Return a text of `limit` characters at most; an ellipsis marks what was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def text_of(problem: BaseException) -> str:
    """Return the message of an exception; blank if making the message fails, as it may."""
    try:
        return str(problem)
    except BaseException:
        return ""


def of_exception(problem: BaseException) -> str:
    """Return the type of an exception and its whole message, in one line."""
    message = shortened(" ".join(text_of(problem).split()), LONGEST)
    return ": ".join(filter(None, [type(problem).__name__, message]))


def of_exit(code: int) -> str:
    """Return the signal that ended a process, or its exit status, as `subprocess` gives it."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"
    except ValueError:
        return f"signal {-code}"


def why(problem: OSError) -> str:
    """Return the operating system's own words for `problem`, without its path."""
    return problem.strerror or str(problem)


def last_line(output: str, otherwise: str = "no message") -> str:
    """Return the last line that a failed process wrote, which in Python names the exception."""
    return (output.strip().splitlines() or [otherwise])[-1]
