"""The columns of a result row, schema 2, and the statuses a cell can end in."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 2

Status = Literal["ok", "unstable", "wrong", "fallback", "unsupported", "oom", "error"]
#: Begins the run_id of a run that another tool has timed.
IMPORTED = "imported-"
#: Takes the place of what another tool does not record.
UNKNOWN = "unknown"
STATUSES: tuple[str, ...] = get_args(Status)
#: All statuses, the worst first.
SEVERITY = ("wrong", "error", "oom", "unsupported", "fallback", "unstable", "ok")
#: Statuses of a cell that ran as it was asked to.
FAULTLESS = frozenset(("ok", "unstable"))
#: Statuses of what a backend does not offer.
REFUSALS = ("unsupported", "fallback")
#: Statuses of what went wrong, the worst first.
FAULTS = ("wrong", "error", "oom", "fallback")
#: Statuses by which a run fails.
FAILED = frozenset(("wrong", "error", "oom"))


class CellKey(NamedTuple):
    """What identifies a cell: unique within a run, the same in every run."""

    family: str
    benchmark: str
    device: str
    dtype: str
    params: str

    @property
    def label(self) -> str:
        """The cell as every command prints it: ``tensors matmul cpu float32 n=1024``."""
        return " ".join(filter(None, self)).replace(";", " ")

    @property
    def place(self) -> tuple[str, str]:
        """The device and the dtype."""
        return self.device, self.dtype


#: The columns of a cell's key, and those of a row's in a file of one machine.
CELL = CellKey._fields
KEY = ("run_id", *CELL)


def cell_keys(frame: "pd.DataFrame") -> list[CellKey]:
    """Return the key of each row of a frame."""
    return [CellKey(*map(str, key)) for key in frame[list(CELL)].itertuples(index=False, name=None)]


#: What is known of a cell that a single call tested, as profile `smoke` does.
SINGLE_CALL = "answer checked, not timed: a single call is no time"


def single_call(frame: "pd.DataFrame") -> "pd.Series[bool]":
    """Return which rows of a frame hold a single call, often the first one, and so no time.

    Such a row has no interval. A row of schema 1 has none either after one round of a slow call,
    which is a time: there, all cells of a run were called once, or none.
    """
    one = (frame.rounds == 1).fillna(False).astype(bool)
    several = frame.rounds.gt(1).fillna(False).astype(bool).groupby(frame.run_id).transform("any")
    old = (frame.schema_version == 1).fillna(False).astype(bool)
    return one & frame.ci_low_s.isna() & ~(old & (several | frame.iterations.ne(1).fillna(False)))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of one run. Times are seconds of one iteration; None means 'not measured'.

    The fields are the columns of the CSV, in order; ``docs/csv.md`` says what each means.
    """

    schema_version: int = SCHEMA_VERSION
    suite_version: str
    run_id: str
    run_started: str
    machine: str
    os: str
    python: str
    torch: str
    torchvision: str
    cpu: str
    cpu_count: int | None
    memory_bytes: int | None
    threads: int | None
    device_name: str
    driver: str
    family: str
    benchmark: str
    device: str
    dtype: str
    params: str
    status: str
    reason: str = ""
    rounds: int | None = None
    iterations: int | None = None
    min_s: float | None = None
    q1_s: float | None = None
    median_s: float | None = None
    q3_s: float | None = None
    max_s: float | None = None
    mean_s: float | None = None
    stddev_s: float | None = None
    ci_low_s: float | None = None
    ci_high_s: float | None = None
    first_call_s: float | None = None
    device_s: float | None = None
    dispatch_s: float | None = None
    items: int | None = None
    item_unit: str | None = None
    bytes: int | None = None
    flop: int | None = None
    rel_error: float | None = None
    tolerance: float | None = None
    peak_bytes: int | None = None
    involuntary_switches: float | None = None
    drift: float | None = None
    stolen: float | None = None
    slowdown: float | None = None
    core_s: float | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The run and the cell, which no other row of a file has."""
        return tuple(getattr(self, name) for name in KEY)


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Row))
#: How many of them each schema has, from the first on: a later one adds some at the end.
WIDTHS = {1: COLUMNS.index("stolen"), SCHEMA_VERSION: len(COLUMNS)}
INTEGERS: tuple[str, ...] = tuple(f.name for f in fields(Row) if f.type in (int, int | None))
FLOATS: tuple[str, ...] = tuple(f.name for f in fields(Row) if f.type == float | None)
TEXTS: tuple[str, ...] = tuple(c for c in COLUMNS if c not in INTEGERS + FLOATS)
#: Columns that may not be blank.
REQUIRED: tuple[str, ...] = (
    *("schema_version", "suite_version", "run_id", "run_started", "machine"),
    *("family", "benchmark", "device", "dtype", "status"),
)
#: The only numbers that may be negative, and those that may be infinite (an overflow, say).
SIGNED = ("drift",)
UNBOUNDED = ("rel_error",)
