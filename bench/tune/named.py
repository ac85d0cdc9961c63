"""What the user names: settings, and functions of their own."""

import dataclasses
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any

from bench.records import lines
from bench.records.choices import unknown
from bench.tune.search import CannotTune, S


def parsed(words: str, example: S, known: Sequence[S]) -> S:
    """Return the setting that words such as ``batch=64 workers=2`` name.

    What they leave out is that of the `example`. Raises CannotTune if it is not among the `known`.
    """
    given: dict[str, Any] = {}
    fields = dataclasses.asdict(example)  # type: ignore[call-overload]
    for word in words.replace(",", " ").split():
        name, _, value = word.partition("=")
        if fault := unknown([name], fields):
            raise CannotTune(f"--setting: {fault}")
        choices = {str(getattr(one, name)): getattr(one, name) for one in known}
        if value not in choices:
            raise CannotTune(f"--setting: {word!r}: give {name}=VALUE, one of {', '.join(choices)}")
        given[name] = choices[value]
    made: S = dataclasses.replace(example, **given)  # type: ignore[type-var]
    if made not in known:
        raise CannotTune(f"--setting {words!r}: this combination does not exist here")
    return made


def called(option: str, name: str) -> Any:
    """Call the function ``MODULE:NAME`` of the user; CannotTune with the option if it fails."""
    if "" not in sys.path:  # modules of the current folder, as for `python -m`
        sys.path.insert(0, "")
    try:
        return pkgutil.resolve_name(name)()
    except Exception as problem:  # code of the user may raise anything
        what = lines.of_exception(problem)
        raise CannotTune(f"{option}: cannot import {name!r} and call it: {what}") from None
