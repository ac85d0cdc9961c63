"""Labels of machines and names of CPUs: what can be one, and one made of any text."""

import re
from collections.abc import Iterable


def is_label(text: str) -> bool:
    """Whether `text` can name a machine and the folder of its results, and no other folder."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text) is not None


def slug(text: str) -> str:
    """Return `text` as words of lower-case letters and digits joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-")


def cpu_name(name: str, numbers: Iterable[object]) -> str:
    """Return the name of a CPU, with the `numbers` of its model if the name lacks one.

    Hypervisors hide the model ("AMD EPYC", "Intel(R) Xeon(R) CPU @ 2.20GHz"). One such name stands
    for CPUs of which one takes 50 times as long for bfloat16 as another.
    """
    known = "-".join(str(number) for number in numbers if number not in (None, ""))
    hidden = not re.search(r"\d", name.partition("@")[0])
    return f"{name} {known}" if name and known and hidden else name
