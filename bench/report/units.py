"""Numbers for people: times, sizes and rates in one unit, three significant figures."""

import math

from bench.stats.ratios import Ratio

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def significant(value: float, digits: int = 3) -> str:
    """Return `value` with `digits` significant figures and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    value = float(f"{value:.{digits - 1}e}")  # 99.96 prints as 100, not as 100.0
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, places)}f}"


def factor(value: float, beside: float | None = None) -> str:
    """Return a ratio with two significant figures, near 1 with two decimals: 1.15, 0.98, 2.4, 19.

    The ends of an interval are written as the ratio `beside` them.
    """
    near = 0.1 <= (value if beside is None else beside) < 1.995
    return f"{value:.2f}" if near and 0.1 <= value < 9.995 else significant(value, 2)


def factors(ratio: Ratio) -> tuple[str, str, str]:
    """Return a ratio and the ends of its interval."""
    value = ratio.value
    return factor(value), factor(ratio.low, value), factor(ratio.high, value)


def interval(ratio: Ratio) -> str:
    """Return ``0.87 (0.80 to 0.94)``."""
    value, low, high = factors(ratio)
    return f"{value} ({low} to {high})"


def scale(value: float, sizes: bool = False) -> tuple[float, str]:
    """Return the unit in which `value` seconds, or bytes, are at least 1: its size and its name."""
    units = _SIZES if sizes else _TIMES
    # 0.9995 of a unit already prints as 1.00 of it.
    return next((u for u in units if value >= 0.9995 * u[0]), units[-1])


def seconds(value: float) -> str:
    """Return a time such as ``1.23 us``, ``45.6 ms`` or ``1.20 s``."""
    length, unit = scale(value)
    return f"{significant(value / length)} {unit}"


def count(number: int, noun: str) -> str:
    """Return ``1 run`` or ``2,000 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rate(value: float, unit: str) -> str:
    """Return an amount per second such as ``13.2 GB/s``."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{significant(value / factor)} {prefix}{unit}/s"
    return f"{significant(value)} {unit}/s"


def size(value: float) -> str:
    """Return a number of bytes such as ``512 B``, ``45.6 MiB`` or ``1.20 GiB``."""
    length, unit = scale(value, sizes=True)
    return f"{significant(value / length) if length > 1 else round(value)} {unit}"
