"""Standard streams that may end before the command does: a closed pipe, a full disk."""

import errno
import os
import sys
from typing import Any


class Output:
    """Passes everything on to a standard stream until it fails, and drops the rest.

    The command then still ends with its own exit status. A reader that has seen enough, as in
    ``| head``, is no fault; other faults are in `problem`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.problem: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        """Return what the stream itself has."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, unless the output has failed."""
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush, unless the output has failed."""
        self._attempt(self._stream.flush)

    def _attempt(self, method: Any, *given: str) -> None:
        try:
            method(*given)
        except OSError as problem:
            if problem.errno not in (errno.EPIPE, errno.EINVAL):  # EINVAL: a closed pipe on Windows
                self.problem = problem
            # What is still buffered, and what follows, goes nowhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def install() -> Output:
    """Put an `Output` in the place of standard output and of standard error; return the former."""
    if sys.stdout is None:  # closed before Python started
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is not None:  # a lost message must not change the exit status either
        sys.stderr = Output(sys.stderr)
    sys.stdout = output = Output(sys.stdout)
    return output
