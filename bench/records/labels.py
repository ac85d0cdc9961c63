"""Labels of machines: what can be one, and one made of any text."""

import re


def is_label(text: str) -> bool:
    """Whether `text` can name a machine and the folder of its results, and no other folder."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text) is not None


def slug(text: str) -> str:
    """Return `text` as words of lower-case letters and digits joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-")
