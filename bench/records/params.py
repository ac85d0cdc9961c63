"""The params of a cell as text: one word for each value, joined and split without loss."""

import enum
import numbers
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

#: A longer word is no name; pytest's id of the value takes its place.
MAX_WORD = 200
#: What separates params, what escapes, and what a line or a terminal would act on. A blank at
#: either end would be lost in a spreadsheet.
_ESCAPED = re.compile(
    r"[%;=\x00-\x1f\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_EDGES = re.compile(r"^ +| +$")
#: What the `repr` of an object without a name of its own shows: an address, another in each run.
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
_UNSERIALIZABLE = re.compile(r"UNSERIALIZABLE\[(.*)\]", re.DOTALL)
_DEVICE = re.compile(r"device\(type='(\w+)'(?:, index=(\d+))?\)")
_DTYPE = re.compile(r"(?:torch\.)?(?:b?float\d+\w*|q?u?int\d+|complex\d+|bool)")


def _percent(found: re.Match[str]) -> str:
    raw = found[0].encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in raw)


def _escape(text: str) -> str:
    return _EDGES.sub(_percent, _ESCAPED.sub(_percent, text))


def join(params: Mapping[str, object]) -> str:
    """Return ``name=value`` pairs, sorted by name and joined by ``;``.

    Separators, ``%``, control characters and blanks at the ends of a value are percent-encoded
    (RFC 3986, section 2.1), so that `split` gives back the same names and words.
    """
    return ";".join(f"{_escape(name)}={_escape(str(params[name]))}" for name in sorted(params))


def split(text: str) -> dict[str, str]:
    """Return the pairs of `join` as a mapping."""
    pairs = (pair.partition("=") for pair in text.split(";")) if text else ()
    return {_unescape(name): _unescape(value) for name, _, value in pairs}


def ordered(text: str) -> str:
    """Return the pairs of `join` sorted by name, as they are unless another program wrote them."""
    return ";".join(sorted(text.split(";"), key=lambda pair: _unescape(pair.partition("=")[0])))


def _unescape(text: str) -> str:
    try:
        return unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:  # not of `join`
        return text


def natural(text: str) -> tuple[list[str], list[tuple[float, str]]]:
    """Return a sort key: params of the same names together, ``n=16`` before ``n=4096``."""
    pairs = split(text)
    key = []
    for value in pairs.values():
        number = re.fullmatch(r"-?\d{1,300}(\.\d+)?", value) is not None
        key.append((float(value), "") if number else (0.0, value))
    return list(pairs), key


def titles(names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the title of each family and benchmark: with the family if another has that name."""
    known = dict.fromkeys(names)
    several = Counter(benchmark for _, benchmark in known)
    return {
        (family, benchmark): benchmark if several[benchmark] == 1 else f"{family} {benchmark}"
        for family, benchmark in known
    }


def word(value: object) -> str | None:
    """Return the word that names a param value, None where it has none of its own.

    Numbers, texts, None, enumerations, dtypes, devices, functions and classes have one, and so have
    short sequences of them. Other objects are known by their `repr` at best, which often holds an
    address; a lambda has no name. Works on values of torch without importing it, and on what
    pytest-benchmark makes of them in JSON (``UNSERIALIZABLE[torch.float16]``).
    """
    try:
        found = _word(value)
    except RecursionError:  # a list that holds itself
        found = None
    return found if found is not None and len(found) <= MAX_WORD else None


def _word(value: object) -> str | None:
    kind = type(value)
    if isinstance(value, str):
        return _of_text(value)
    if value is None or isinstance(value, (enum.Enum, numbers.Number)):
        return str(value)
    if kind.__module__ == "torch" and kind.__name__ in ("device", "dtype"):
        return str(value).removeprefix("torch.")
    if isinstance(value, (list, tuple)):
        words = [_word(item) for item in value[:MAX_WORD]]
        return None if None in words else f"({','.join(filter(None, words))})"
    name: Any = getattr(value, "__name__", None)
    return name if isinstance(name, str) and name.isidentifier() else None


def _of_text(text: str) -> str | None:
    """Return the word of a text, which may be what a JSON writer made of another value."""
    found = _UNSERIALIZABLE.fullmatch(text)
    inner = found[1] if found else text
    if device := _DEVICE.fullmatch(inner):
        return f"{device[1]}:{device[2]}" if device[2] else device[1]
    if _DTYPE.fullmatch(inner):
        return inner.removeprefix("torch.")
    return None if found or _ADDRESS.search(text) else text
