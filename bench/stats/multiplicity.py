"""Corrections of p-values for a family of tests."""

from collections.abc import Sequence


def holm(p_values: Sequence[float], tests: int = 0) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method.

    Or for that of `tests`, where these are the smallest of so many.
    """
    count = max(tests, len(p_values))
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
