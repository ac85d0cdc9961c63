"""How often `bench verdict` says something false of machines on which nothing differs.

``python -m tests.validation.verdicts [MACHINES]`` prints, for each question, on how many machines
whose true ratios are all 1 its answer has a false statement. The answers state 95 % confidence.
"""

import collections
import sys
from collections.abc import Iterable

from bench.compare import cells
from bench.verdicts import answers
from bench.verdicts.finding import Finding
from tests.helpers import machines

#: What a finding must not say of a machine on which nothing differs.
CLAIMS = (
    *("faster", "slower", "fastest", "best", "use", "among the best", "share", "loading"),
    *("keeps up", "above", "below", "always", "never", "mixed", "pays"),
)
#: Findings of these topics give a figure, and compare nothing.
FIGURES = ("first call", "launch", "overhead", "bandwidth", "arithmetic", "unstable")


def false(one: Finding) -> bool:
    """Whether a finding says that two things differ."""
    if one.topic in FIGURES:
        return False
    if one.topic == "loading" and one.advice == "among the best":
        return one.ratio is not None
    ends = getattr(one, "best", None) or getattr(one, "worst", None)
    return one.advice in CLAIMS or bool(ends) or one.topic in ("far below", "memory")


def claims(found: Iterable[cells.Cell]) -> dict[str, list[Finding]]:
    """Return the false statements of a machine on which nothing differs, by question."""
    made = {one.question: list(filter(false, one.findings)) for one in answers.of(list(found))}
    return {question: several for question, several in made.items() if several}


def main() -> None:
    """Print the share of machines with a false statement, by question."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seen: collections.Counter[str] = collections.Counter()
    topics: collections.Counter[str] = collections.Counter()
    for seed in range(count):
        made = claims(cells.of(machines.equal(seed).frame()))
        seen.update(made.keys())
        topics.update({one.topic for several in made.values() for one in several})
        seen["any"] += bool(made)
    print(f"{count:,} machines")
    for question in (*answers.QUESTIONS, "any"):
        print(f"{question}: {seen[question]} ({seen[question] / count:.1%})")
    print(dict(topics))


if __name__ == "__main__":
    main()
