"""Text from files, escaped so that no program that shows it acts on it."""

import re

#: GitHub links mentions, numbers of issues and addresses after Markdown, when the escapes are gone
#: (github/cmark-gfm#181).
_LINKED = re.compile(r"@(?=\w)|#(?=\d)|:(?=//)|www(?=\.)|(?<![^\W_])GH(?=-\d)", re.IGNORECASE)
#: A space of no width: GitHub makes no link of what it separates.
_APART = "\u200b"
#: What Markdown or the HTML in it would act on, and how to show it if a backslash does not.
_MARKUP = re.compile(rf"[\\`*_{{}}\[\]<>()#+!|~@:$&{_APART}]")
_SHOWN = {
    **{"<": "&lt;", ">": "&gt;", "&": "&amp;"},
    # In this form it is visible in the source, in any encoding.
    _APART: "&#8203;",
    # GitHub looks for math before Markdown and after it: the backslash prevents the first, the
    # element the second (docs.github.com, "Writing mathematical expressions").
    "$": r"<span>\$</span>",
}


def markdown(text: str) -> str:
    """Return `text` so that GitHub Markdown shows it unchanged: no markup, links or math."""
    parted = _LINKED.sub(rf"\g<0>{_APART}", text)
    return _MARKUP.sub(lambda found: _SHOWN.get(found[0], rf"\{found[0]}"), parted)
