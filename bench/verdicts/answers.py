"""The questions a user has of a machine, and the findings that answer each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.compare.cells import Cell
from bench.verdicts import alternatives, calls, faults, grouped, loading, peaks, sizes, use
from bench.verdicts.by_benchmark import benchmarks
from bench.verdicts.finding import Finding
from bench.verdicts.named import LOADER, STEP

Rule = Callable[[list[Cell]], Iterator[Finding]]
#: The rules of each question, in the order of the answers.
QUESTIONS: dict[str, tuple[Rule, ...]] = {
    "use": (use.settings,),
    "device": (grouped.devices, sizes.devices, benchmarks),
    "dtype": (grouped.dtypes, calls.memory),
    "loading": (loading.loading, loading.bottlenecks, loading.options),
    "implementations": (
        *(alternatives.optimizers, calls.compiled),
        *(alternatives.in_place, alternatives.copies),
    ),
    "faults": (faults.faults, faults.unsupported),
    "quality": (
        *(faults.unsettled, peaks.bandwidth, peaks.arithmetic, sizes.overhead),
        *(calls.launches, calls.first_calls),
    ),
}
#: The benchmarks without which a question has no answer.
ABOUT = {"use": STEP, "loading": LOADER}
#: Rules whose findings have an order of their own.
IN_ORDER = (
    *(grouped.devices, grouped.dtypes),
    *(peaks.bandwidth, peaks.arithmetic, calls.first_calls),
)
#: Topics of which a question shows all findings; of the others it shows the first few.
WHOLE = ("use", "machine", "machine loading", "fault", "unsupported")


@dataclass(frozen=True)
class Answer:
    """The findings on a question, those worth most first within each rule.

    `asked`: the results have a cell that the question is about.
    """

    question: str
    findings: tuple[Finding, ...]
    asked: bool = True


@dataclass(frozen=True)
class Basis:
    """The number of cells with a time, of those that are settled, and of those not timed."""

    settled: int
    total: int
    not_timed: int


def basis(found: Sequence[Cell]) -> Basis:
    """Return what the answers rest on."""
    timed = [cell for cell in found if cell.estimate.likely]
    single = sum(cell.estimate.status == "not timed" for cell in found)
    unsettled = sum(cell.estimate.status in ("unstable", "unmeasurable") for cell in found)
    settled = sum(cell.settled for cell in timed)
    return Basis(settled, settled + unsettled, single)


def of(found: list[Cell], question: str | None = None) -> list[Answer]:
    """Return the answer to each question, or to one of them."""
    made = []
    for name, rules in QUESTIONS.items():
        if question not in (None, name):
            continue
        findings: list[Finding] = []
        for rule in rules:
            new = list(rule(found))
            if rule not in IN_ORDER:
                float32_first = name == "device"
                new.sort(key=lambda o: (float32_first and o.subject.dtype != "float32", -o.effect))
            findings += new
        asked = name not in ABOUT or bool(ABOUT[name].among(found))
        made.append(Answer(name, tuple(findings), asked))
    return made
