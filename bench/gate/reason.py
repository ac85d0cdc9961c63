"""Why a cell has its verdict, and what else to know of a comparison: a code with its figures."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Reason(NamedTuple):
    """A code, for which report/gate_outcome.py has the words, and the figures in them."""

    code: str
    figures: Mapping[str, Any]


def reason(code: str, **figures: Any) -> Reason:
    """Return a reason; shares are relative (0.1 is 10 %), `seen` is a status and its message."""
    return Reason(code, figures)
