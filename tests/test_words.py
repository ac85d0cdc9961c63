"""The project uses standard terms and plain English: names and prose avoid the words below."""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Words that no part of an identifier may be, each with the standard term.
NAMES = {
    "told": "observations, report",
    "tell": "report",
    "tells": "report",
    "telling": "report",
    "said": "statuses, message",
    "say": "message",
    "says": "message",
    "anew": "again",
    "heat": "heatmap",
    "ways": "alternatives",
    "still": "controls",
    "team": "synchronisation probe",
    "pace": "throughput probe",
    "meet": "synchronise",
    "meets": "synchronise",
    "patience": "wait budget",
    "yardstick": "reference kernel",
    "yardsticks": "reference kernels",
    "stick": "kernel",
    "sticks": "kernels",
    "calm": "quiet",
    "crowd": "many machines",
    "mend": "repair, correct",
    "mends": "repair, correct",
    "mended": "repaired, corrected",
}

#: Phrases that no Markdown, docstring, comment or message may hold, each with a plain one.
PROSE = {
    r"told": "reported, known",
    r"tells?|telling": "shows, reports, names",
    r"(?:is|are|was|were|be) said": "is reported",
    r"anew": "again",
    r"yardsticks?": "reference kernel",
    r"patience": "wait budget",
    r"sticks?": "kernel",
    r"calm(?:er)?": "quiet",
    r"crowds?": "many machines",
    r"mend(?:s|ed|ing)?": "repair, correct",
    r"beside nothing else": "on an otherwise idle machine",
    r"(?:has|have|had) no time": "was not measured",
    r"of (?:good|bad|quiet) hours?": "while the host was quiet",
    r"in (?:good|bad|quiet) hours?": "while the host was quiet",
    r"as (?:it|they) stands?": "unchanged",
    r"(?:lie|lies|lay) (?:in|within)": "is within, is in",
    r"go(?:es)? on (?:with|after)": "continue",
    r"one of (?:its|his|your) own": "its own, your own",
    r"of one's own": "your own",
    r"come to lie": "are",
    r"who(?:so)?ever": "any, each",
    r"betray(?:s|ed)?": "shows",
    r"(?:pace|team) of": "throughput, synchronisation",
    r"at the (?:most|least)": "at most, at least",
    r"(?:holds?|held) (?:them |it |this table |these )?together": "checks",
    r"thereof|hereby|herewith|whence|thence|albeit|lest|aught|naught": "a modern word",
}
_PROSE = re.compile(rf"\b(?:{'|'.join(PROSE)})\b", re.I)


def pages() -> list[Path]:
    """Return all Markdown of the project."""
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@functools.cache
def rooms() -> dict[str, list[Path]]:
    """Return the modules by room: the folder below ``bench/``, or the file of ``tests/``."""
    found: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "bench").rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        found.setdefault("/".join(parts[:2]), []).append(path)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        found[path.relative_to(ROOT).as_posix()] = [path]
    del found["tests/test_words.py"]  # it lists them
    return found


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the names that a module defines: functions, classes, arguments, variables, fields."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield line, node.name
        elif isinstance(node, ast.arg):
            yield line, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield line, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield line, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield line, node.asname


def _parts(name: str) -> list[str]:
    """Return the words of a snake_case or CamelCase name, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]


def _strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and string literals of a module, joined where they follow each other."""
    start, text = 0, ""
    strings = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    passing = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or token.type in strings:
            start = start or token.start[0]
            words = token.string.lstrip("#: ") if token.type == tokenize.COMMENT else token.string
            text += " " + words.strip("\"'")
        elif token.type not in passing:
            if text:
                yield start, text
            start, text = 0, ""
    if text:
        yield start, text


def faults(path: Path) -> list[str]:
    """Return one line per banned word of a file: where it is, and what to write instead."""
    source = path.read_text(encoding="utf-8")
    where = path.relative_to(ROOT)
    found = []
    if path.suffix == ".py":
        names = list(_names(ast.parse(source)))
        for line, name in names:
            if name.startswith("test_"):  # a sentence
                continue
            for part in NAMES.keys() & set(_parts(name)):
                found.append(f"{where}:{line}: name {name}: {part} -> {NAMES[part]}")
        texts = list(_strings(source))
        sentences = (pair for pair in names if pair[1].startswith("test_"))
        texts += [(line, name.replace("_", " ")) for line, name in sentences]
    else:
        texts = [
            (source[: m.start()].count("\n") + 1, m[0]) for m in re.finditer(r"(?:.+\n?)+", source)
        ]
    for line, text in texts:
        for match in _PROSE.finditer(" ".join(text.split())):
            plain = next(plain for old, plain in PROSE.items() if re.fullmatch(old, match[0], re.I))
            found.append(f"{where}:{line}: {match[0]!r} -> {plain}")
    return found


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_is_plain_english(path):
    assert not faults(path)


@pytest.mark.parametrize("room", rooms())
def test_a_room_has_standard_names_and_plain_english(room):
    assert not [fault for path in rooms()[room] for fault in faults(path)]


def test_the_word_list_finds_names_comments_docstrings_and_messages(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(
        'class Told:\n    """It begins anew."""\n\n\ndef is_calm(*, patience):\n'
        '    # Beside nothing\n    # else.\n    raise OSError("the cell " "has no time")\n'
    )
    assert [fault.split(": ", 1)[1] for fault in faults(path)] == [
        "name Told: told -> observations, report",
        "name is_calm: calm -> quiet",
        "name patience: patience -> wait budget",
        "'anew' -> again",
        "'Beside nothing else' -> on an otherwise idle machine",
        "'has no time' -> was not measured",
    ]
    path.write_text('def distil(): """Heat maps and instilled words are fine."""\n')
    assert not faults(path)
