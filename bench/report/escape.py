"""Text from other people's files, made harmless where it is shown."""

import re

#: What Markdown or the HTML within it would act on.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~@:])")
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown(text: str) -> str:
    """Return `text` so that GitHub Markdown shows it as it is: no markup, links or mentions."""
    escaped = _MARKUP.sub(r"\\\1", text.replace("&", "&amp;"))
    return escaped.replace("\\<", "&lt;").replace("\\>", "&gt;")


def no_formula(text: str) -> str:
    """Return `text` so that a spreadsheet shows it instead of running it."""
    return f"'{text}" if text.startswith(_FORMULA) else text
