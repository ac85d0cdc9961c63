"""Text from other people's files, made harmless where it is shown."""

import re

#: What GitHub links after Markdown, by which time escapes are gone (github/cmark-gfm#181):
#: mentions, numbers of issues, addresses.
_LINKED = re.compile(r"@(?=\w)|#(?=\d)|:(?=//)|www(?=\.)|(?<![^\W_])GH(?=-\d)", re.IGNORECASE)
#: A space of no width: a link that is torn apart by it is none.
_APART = "\u200b"
#: What Markdown or the HTML within it would act on, and what shows it where a backslash is not it.
_MARKUP = re.compile(rf"[\\`*_{{}}\[\]<>()#+!|~@:$&{_APART}]")
_SHOWN = {
    **{"<": "&lt;", ">": "&gt;", "&": "&amp;"},
    # Written so, any encoding has it, and it can be seen in the source.
    _APART: "&#8203;",
    # Math is looked for before Markdown and after it: the backslash ends the one, the element the
    # other (docs.github.com, "Writing mathematical expressions").
    "$": r"<span>\$</span>",
}
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown(text: str) -> str:
    """Return `text` so that GitHub Markdown shows it as it is: no markup, links, mentions, math."""
    parted = _LINKED.sub(rf"\g<0>{_APART}", text)
    return _MARKUP.sub(lambda found: _SHOWN.get(found[0], rf"\{found[0]}"), parted)


def no_formula(text: str) -> str:
    """Return `text` so that a spreadsheet shows it instead of running it."""
    return f"'{text}" if text.startswith(_FORMULA) else text
