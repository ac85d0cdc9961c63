"""What an exception says of a cell: unsupported, out of memory, wrong, or an error."""

import re

import torch

from bench.measure.answer import WrongAnswer

# PyTorch has no exception of its own for "this backend lacks that"; these are its phrasings.
_UNSUPPORTED = re.compile(
    r"not implemented for|not (currently )?(supported|implemented)|unsupported|"
    r"does(n't| not) support|is not available for|could not run .* with arguments from",
    re.IGNORECASE,
)
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|failed to allocate|"
    r"cannot allocate memory",
    re.IGNORECASE,
)


def one_line(text: str, limit: int = 300) -> str:
    """Return the first line of a message that says something, whitespace folded, cut at `limit`."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else ""
    return line if len(line) <= limit else line[: limit - 1] + "…"


def classify(exception: BaseException) -> tuple[str, str]:
    """Return the status and the one-line reason for what a cell raised."""
    reason = one_line(str(exception)) or type(exception).__name__
    if isinstance(exception, WrongAnswer):
        return "wrong", reason
    if isinstance(exception, (MemoryError, torch.OutOfMemoryError)):
        return "oom", reason
    if isinstance(exception, RuntimeError) and _OUT_OF_MEMORY.search(str(exception)):
        return "oom", reason
    if isinstance(exception, NotImplementedError):
        return "unsupported", reason
    if isinstance(exception, (RuntimeError, TypeError)) and _UNSUPPORTED.search(str(exception)):
        return "unsupported", reason
    return "error", f"{type(exception).__name__}: {reason}"
