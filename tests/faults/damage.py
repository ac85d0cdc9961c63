"""Result files, and ways to damage them."""

import csv
import io
import itertools
import json
import random
from pathlib import Path

from bench.records.schema import COLUMNS
from bench.records.writer import Writer
from tests.helpers.frames import HOSTILE, row

#: Values that a field is replaced by.
FIELDS = (
    *("", " ", "nan", "inf", "-inf", "-1", "0", "1e308", "1e-320", "1e999", "9" * 400, "0x10"),
    *("1_0", "ok", "wrong", "unstable", "error", "OK", "3", "2.5", "true", "None", "\x00"),
    *("\ud7ff", "é", "a=1;a=2", "n=", "=", ";;", "n=1;b", "n", "n=%FF", "../../etc", "unknown"),
    *("2026-13-01T00:00:00Z", "x" * 5_000, HOSTILE),
)
#: Text that is put into a file somewhere.
PIECES = (
    *('"', "\n", "\r", "\r\n", ",", "\x00", "\ufeff", ",,,,", '"""', "\n\n", "é\ud7ff", "#"),
    "a" * 9_999,
)
#: What takes the place of a value in JSON.
TOKENS = (
    *("null", "NaN", "1e999", "-Infinity", "-1", "0", "1e-320", '""', "[]", "{}", "true", '"x"'),
    *("[[]]", '[""]', '{"a": 1}', '"../../etc"', '"a\\nb"', '"\\ud800"', "9" * 400, "[" * 50_000),
)
SLOW = "slow"
#: Columns whose values contradict the others of an ordinary row, or its status.
CONTRADICTIONS = (
    *({"median_s": "0"}, {"median_s": ""}, {"median_s": "-0.001"}, {"median_s": "1e300"}),
    *({"min_s": "1e-9"}, {"min_s": "1"}, {"q1_s": "1"}, {"q3_s": "1e-9"}, {"max_s": "1e-9"}),
    *({"ci_low_s": "1"}, {"ci_high_s": "1e-9"}, {"min_s": "inf"}, {"median_s": "nan"}),
    *({"rounds": "0"}, {"iterations": "0"}, {"threads": "0"}, {"rel_error": "5"}),
    *({"rel_error": "inf"}, {"tolerance": "1e9", "rel_error": "5"}, {"status": "fine"}),
    *({"run_started": "yesterday"}, {"run_started": "2026-13-01T00:00:00Z"}, {"items": "-1"}),
)


def runs(slower: float, folder: Path, name: str) -> Path:
    """Write six runs of four cells; the cell `SLOW` is `slower` times slower."""
    path, source = folder / name, random.Random(name)
    writer = Writer(path)
    for run, (benchmark, dtype) in itertools.product(
        range(6), itertools.product(("cat", SLOW), ("float32", "float16"))
    ):
        median_s = 1e-3 * source.uniform(0.99, 1.01) * (slower if benchmark == SLOW else 1)
        spread = {"min_s": 0.99, "q1_s": 0.995, "q3_s": 1.005, "max_s": 1.02, "mean_s": 1.0}
        spread |= {"ci_low_s": 0.98, "ci_high_s": 1.02}
        times = {column: factor * median_s for column, factor in spread.items()}
        columns = {"run_id": f"{name}{run}", "run_started": f"2026-01-01T0{run}:00:00Z"}
        columns |= {"benchmark": benchmark, "dtype": dtype, "params": "n=16"}
        more = {"rounds": 20, "iterations": 3, "rel_error": 1e-7, "tolerance": 1e-6, "items": 8}
        writer.append(row(**columns, median_s=median_s, **times, **more))
    writer.close()
    return path


def contradictory(text: str, source: random.Random) -> bytes:
    """Return a CSV in which a row contradicts itself, or another row of the same cell."""
    header, *rows = csv.reader(io.StringIO(text))
    number = source.randrange(len(rows))
    change = source.choice((*CONTRADICTIONS, None))
    if change is None:
        again = list(rows[number])
        again[COLUMNS.index("median_s")] = rows[number][COLUMNS.index("q3_s")]
        rows.insert(source.randrange(len(rows) + 1), again)
    else:
        for column, value in change.items():
            rows[number][COLUMNS.index(column)] = value
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue().encode()


def damaged(text: str, source: random.Random) -> bytes:
    """Return a text, a CSV say, with one to three faults."""
    for _ in range(source.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        number = source.randrange(len(lines))
        fields = lines[number].split(",")
        place = source.randrange(len(fields))
        match source.randrange(9):
            case 0 | 1 | 2:
                fields[place] = source.choice(FIELDS)
            case 3:
                del fields[place]
            case 4:
                fields.insert(place, source.choice(FIELDS))
            case 5:
                fields[place], fields[0] = fields[0], fields[place]
            case 6:
                lines.insert(number, lines[source.randrange(len(lines))])
                fields = lines[number].split(",")
            case 7:
                at = source.randrange(len(text) + 1)
                text = text[:at] + source.choice(PIECES) + text[at:]
                continue
            case 8:
                text = text[: source.randrange(len(text) + 1)]
                continue
        lines[number] = ",".join(fields)
        text = "\n".join(lines)
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    if source.random() < 0.1 and raw:
        raw[source.randrange(len(raw))] = source.randrange(256)
    return bytes(raw)


def damaged_json(value: object, source: random.Random) -> bytes:
    """Return JSON in which one value, or one character, is another."""
    text = json.dumps(value)
    at = source.randrange(len(text))
    if source.random() < 0.5:
        ends = [i for i in range(at, len(text)) if text[i] in ",}]:"] or [len(text)]
        return (text[:at] + source.choice(TOKENS) + text[ends[0] :]).encode()
    if source.random() < 0.5:  # a whole value, so that the rest still parses
        return json.dumps(_changed(value, source)).encode()
    return (text[:at] + source.choice([*PIECES, *'{}[],:"0-']) + text[at + 1 :]).encode(
        "utf-8", "surrogatepass"
    )


def _changed(value: object, source: random.Random) -> object:
    """Return a JSON value in which one part is another, of any type, or is missing."""
    if isinstance(value, (dict, list)) and value and source.random() < 0.9:
        made = value.copy()
        place = source.choice(list(made) if isinstance(made, dict) else range(len(made)))
        if source.random() < 0.15:
            del made[place]
        else:
            made[place] = _changed(made[place], source)
        return made
    return source.choice([None, float("nan"), 1e999, -1, 0, 1e300, "", [], {}, True, "x", "a\nb"])
