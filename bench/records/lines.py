"""Messages in one line: of a text, of an exception, of a process that failed."""


def one_line(text: str, limit: int = 300) -> str:
    """Return the first line of a text that is not blank, whitespace folded, cut at `limit`."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return shortened(lines[0] if lines else "", limit)


def shortened(text: str, limit: int) -> str:
    """Return a text of `limit` characters at most; an ellipsis marks what was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def of_exception(problem: BaseException) -> str:
    """Return the type of an exception and its whole message, in one line."""
    message = shortened(" ".join(str(problem).split()), 300)
    return ": ".join(filter(None, [type(problem).__name__, message]))


def last_line(output: str, otherwise: str = "no message") -> str:
    """Return the last line that a failed process wrote, which in Python names the exception."""
    return (output.strip().splitlines() or [otherwise])[-1]
