"""Broken and odd files through every reading command: one clear line or a result, no traceback.

``MUTATIONS=10000 pytest tests/test_mutations.py`` takes as many files as that;
``MUTATIONS=7000-10000`` goes on from the 7,000th.
"""

import os
import random
import time

import pytest
from typer.testing import CliRunner

from bench.cli import main
from bench.records.schema import COLUMNS, Row
from bench.records.writer import Writer
from tests.helpers.truths import a_machine

FIRST, _, LAST = os.environ.get("MUTATIONS", "0-40").rpartition("-")
SEEDS = range(int(FIRST or 0), int(LAST))
#: A drawn report takes a second or two; one in so many is drawn.
REPORTS = 40
HANG_S = 60
COMMANDS = (
    ("compare",),
    ("compare", "--columns", "dtype", "--format", "json"),
    ("compare", "--format", "markdown", "--sort", "ratio"),
    ("compare", "--outliers", "--format", "markdown"),
    ("history", "--all"),
    ("verdict",),
    ("export", "--format", "go"),
    ("export", "--format", "pytest-benchmark"),
    ("report", "--markdown"),
)
ODD = (
    *("", "nan", "inf", "-inf", "1e308", "1e400", "-1", "0", "9" * 400, "9223372036854775808"),
    *(
        "1e-320",
        "0x10",
        "1_000",
        " 1",
        "é",
        "\u202e",
        "\x00",
        "=1+1",
        "a=b=c",
        ";;",
        "=",
        "n=",
        "n=0",
    ),
    *(
        "n=0",
        "batch=-1",
        "batch=1e999",
        "ok",
        "wrong",
        "2",
        "x" * 20_000,
        '"',
        '""',
        ",",
        "\n",
        "\r",
    ),
)


def original(path):
    writer = Writer(path)
    for columns in a_machine().frame().to_dict("records"):
        plain = {name: None if value != value else value for name, value in columns.items()}
        writer.append(Row(**plain))
    writer.close()
    return path.read_bytes()


def mutate(data, source):
    """Return the file with something changed, as editors, disks and people change files."""
    kind = source.randrange(9)
    if kind == 0:
        changed = bytearray(data)
        for _ in range(source.choice((1, 3, 50))):
            changed[source.randrange(len(changed))] = source.randrange(256)
        return bytes(changed)
    if kind == 1:
        start = source.randrange(len(data))
        return data[:start] + data[start + source.randrange(1, 400) :]
    if kind == 2:
        return data[: source.randrange(len(data))]
    if kind == 3:
        return data.decode().encode(
            source.choice(("utf-16", "utf-8-sig", "utf-32", "cp037")), "replace"
        )
    lines = data.decode().split("\r\n")
    at = source.randrange(len(lines))
    if kind == 4:
        lines.insert(at, lines[source.randrange(len(lines))])
    elif kind == 5:
        source.shuffle(lines)
    else:
        # Several cells of one column, or one cell, become something odd.
        column, odd = source.randrange(len(COLUMNS)), source.choice(ODD)
        for number in range(1, len(lines) - 1) if kind == 6 else [at]:
            fields = lines[number].split(",")
            fields[min(column, len(fields) - 1)] = odd
            if kind == 8:
                source.shuffle(fields)
            lines[number] = ",".join(fields)
    return "\r\n".join(lines).encode()


@pytest.mark.filterwarnings("error")
def test_mutated_files_never_end_in_a_traceback(tmp_path):
    data = original(tmp_path / "original.csv")
    path = tmp_path / "mutated.csv"
    runner = CliRunner()
    read = 0
    for seed in SEEDS:
        path.write_bytes(mutate(data, random.Random(seed)))
        commands = list(COMMANDS)
        if seed % REPORTS == 0:
            commands.append(("report", "-o", str(tmp_path / "report.html")))
        commands.append(("check", "--baseline", str(tmp_path / "original.csv")))
        for command in commands:
            start = time.monotonic()
            done = runner.invoke(main.app, [command[0], str(path), *command[1:]])
            known = done.exception is None or isinstance(done.exception, SystemExit)
            assert known, (seed, command, done.exception)
            # It takes a tenth of a second; this is the difference to a hang.
            assert time.monotonic() - start < HANG_S, (seed, command)
            allowed = (0, 1, 2, 3, 4) if command[0] == "check" else (0, 2)
            assert done.exit_code in allowed, (seed, command)
            if done.exit_code == 2:
                assert done.output.startswith("bench: "), (seed, command, done.output)
                assert len(done.output.strip().splitlines()) == 1, (seed, command, done.output)
                if command == COMMANDS[0]:
                    break  # the reader is the same for all
            read += done.exit_code == 0
    assert read > len(SEEDS) // 10
