"""Search settings within a budget of seconds: the same for every kind of setting."""

import collections
import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from bench.measure import refusal
from bench.records.choices import UserError
from bench.stats import quantiles
from bench.stats.moderated import Pair
from bench.stats.ratios import Ratio

METHODS = ("manual", "grid", "random", "bayes")
#: Of the methods that choose at random; a search that is resumed suggests the same settings.
SEED = 0
#: Finalists are the settings within this factor of the fastest, at most so many, and the default.
CLOSE, FINALISTS = 0.8, 6
#: Settings that must have been tried, the default among them, before one is recommended.
FEWEST = 5

S = TypeVar("S", bound=Hashable)


class CannotTune(UserError):
    """The search cannot run as requested; the message is one line for the user."""


class Pruned(Exception):
    """The measurement of a setting was given up, because others are faster."""


#: Receives a time since the start as a whole number and a loss; returns whether to give up.
Watch = Callable[[int, float], bool]


def never(_: float, __: float) -> bool:
    """Give no setting up."""
    return False


class Problem(Protocol[S]):
    """What is searched: settings, the plain default among them, and how to measure one.

    The first share of the budget is for the first measurement of each setting, the time up to the
    second share for the finalists.
    """

    settings: Sequence[S]
    default: S
    shares: tuple[float, float]

    def kind(self, setting: S, /) -> Hashable:
        """Return a key that is equal for settings of similar cost that also fail together."""

    def guess_s(self, setting: S, /) -> float:
        """Return the assumed seconds of a measurement, until one of the same kind was made."""

    def priority(self, setting: S, rates: Mapping[S, float], /) -> Any:
        """Return a key: a grid measures the setting with the smallest one next."""

    def measure(self, setting: S, turn: int, fastest: float, watch: Watch, /) -> list[float]:
        """Return rates, higher is better; Pruned if they cannot come near the `fastest`."""


@dataclass
class Trial(Generic[S]):
    """The rates of one setting.

    `screened` holds those of the first measurement, `compared` those of the turns with the other
    finalists. Only `compared` rates were measured under the same conditions, and only they did not
    select the finalists. Without any, `reason` says why.
    """

    setting: S
    screened: list[float] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def rates(self) -> list[float]:
        """The rates that count: those of the comparison, if there are any."""
        return self.compared or self.screened

    @property
    def rate(self) -> float:
        """The median rate, 0 without any."""
        return statistics.median(self.rates or [0.0])

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median; the range if there are fewer than six rates."""
        return quantiles.median_interval(self.rates) or (min(self.rates), max(self.rates))


@dataclass
class Search(Generic[S]):
    """All trials by setting, in the order of the search; `stopped` by Ctrl-C."""

    problem: Problem[S]
    trials: dict[S, Trial[S]] = field(default_factory=dict)
    stopped: bool = False

    @property
    def ranked(self) -> list[Trial[S]]:
        """The trials with rates: those that were compared first, then by rate."""
        found = [trial for trial in self.trials.values() if trial.rates]
        return sorted(found, key=lambda trial: (not trial.compared, -trial.rate))

    @property
    def comparable(self) -> list[Trial[S]]:
        """Those of the ranked that were compared in turn, or all if none was."""
        ranked = self.ranked
        return [trial for trial in ranked if trial.compared] or ranked

    @property
    def fewest(self) -> int:
        """How many settings must have been tried before one is recommended."""
        return min(FEWEST, len(self.problem.settings))

    @property
    def settled(self) -> bool:
        """Whether enough settings were tried to recommend one."""
        return len(self.trials) >= self.fewest

    def finalists(self) -> list[Trial[S]]:
        """Return the default, and the trials close to the fastest."""
        ordered = sorted(self.ranked, key=lambda trial: -statistics.median(trial.screened))
        least = CLOSE * statistics.median(ordered[0].screened)
        close = [t for t in ordered[:FINALISTS] if statistics.median(t.screened) >= least]
        plain = self.trials[self.problem.default]
        return [plain, *(trial for trial in close if trial is not plain)]


def factor(base: Sequence[float], new: Sequence[float]) -> Ratio | None:
    """Return how many times as high the new rates are, with the interval that `bench ab` uses.

    None if a side has fewer than two.
    """
    if min(len(base), len(new)) < 2:
        return None
    pair = Pair("", tuple(map(math.log, base)), tuple(map(math.log, new)))
    moved, half = pair.difference, pair.half()
    return Ratio(math.exp(moved), math.exp(moved - half), math.exp(moved + half))


def _suggestions(search: Search[S], method: str) -> Iterator[tuple[S, Watch]]:
    """Yield the default, then settings in the order of the method, each with what watches it."""
    problem = search.problem
    if method == "bayes":
        yield from _bayesian(search)
        return
    yield problem.default, never
    left = [setting for setting in problem.settings if setting != problem.default]
    if method == "grid":
        while left:
            rates = {trial.setting: trial.rate for trial in search.trials.values()}
            following = min(left, key=lambda setting: problem.priority(setting, rates))
            left.remove(following)
            yield following, never
    else:
        if method == "random":
            random.Random(SEED).shuffle(left)
        yield from ((setting, never) for setting in left)


def _bayesian(search: Search[S]) -> Iterator[tuple[S, Watch]]:
    """Suggest the default, then settings with Optuna's tree-structured Parzen estimator.

    Its pruner watches them.
    """
    try:
        import optuna
    except ImportError:
        raise CannotTune(
            "--method bayes needs Optuna: pip install 'torch-device-bench[tune]'"
        ) from None
    yield search.problem.default, never
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=SEED),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=1),
    )
    settings = search.problem.settings
    names = [one.name for one in dataclasses.fields(settings[0])]  # type: ignore[arg-type]
    axes = {name: sorted({getattr(setting, name) for setting in settings}) for name in names}
    spaces: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution(axes[name]) for name in names
    }

    for known in search.trials.values():
        given = {name: getattr(known.setting, name) for name in names}
        study.add_trial(
            optuna.trial.create_trial(params=given, distributions=spaces, value=known.rate)
        )
    for _ in range(20 * len(settings)):
        if all(setting in search.trials for setting in settings):
            return
        asked = study.ask(spaces)
        # Not every combination exists: the one that differs in the last of the fields counts.
        setting = min(
            settings, key=lambda s: [getattr(s, name) != asked.params[name] for name in names]
        )
        if done := search.trials.get(setting):
            study.tell(asked, done.rate)
            continue
        seen = [-1]

        def watch(moment: int, loss: float, asked: Any = asked, seen: list[int] = seen) -> bool:
            # The pruner compares trials at the same moment, so every moment needs a value.
            for each in range(seen[-1] + 1, moment + 1):
                asked.report(-loss, each)
            seen.append(max(moment, seen[-1]))
            return bool(asked.should_prune())

        yield setting, watch
        if setting not in search.trials:  # the budget is spent
            return
        found = search.trials[setting]
        if found.rates or not seen[1:]:
            study.tell(asked, found.rate)
        else:
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)


def run(
    problem: Problem[S],
    method: str,
    budget_s: float,
    known: Iterable[Trial[S]] = (),
    now: Callable[[], float] = time.perf_counter,
    warn: Callable[[str], object] = lambda line: None,
    keep: Callable[[Search[S]], object] = lambda search: None,
    show: Callable[[float, str], object] = lambda seconds, what: None,
) -> Search[S]:
    """Search the settings of a problem; `known` trials of an earlier search count.

    The plain default is measured first. Every suggested setting is measured once, within a share of
    the budget; then those close to the fastest are measured in turn, so that luck does not decide.
    A kind of setting that fails is skipped, with a line to `warn`. `keep` gets the search after
    each measurement, `show` the seconds since the start and the setting before it. Ctrl-C ends
    the search, and what was measured is kept. Raises CannotTune if the default fails, or if the
    budget is too small for it.
    """
    search = Search(problem, {trial.setting: trial for trial in known})
    began = now()
    costs: dict[Hashable, float] = {}

    def affords(setting: S, share: float) -> bool:
        cost = costs.get(problem.kind(setting))
        cost = problem.guess_s(setting) if cost is None else cost
        return now() - began + cost <= share * budget_s

    def measure(setting: S, turn: int, fastest: float, watch: Watch) -> list[float]:
        show(now() - began, str(setting))
        start = now()
        try:
            return problem.measure(setting, turn, fastest, watch)
        finally:
            kind = problem.kind(setting)
            costs[kind] = max(now() - start, costs.get(kind, 0.0))

    try:
        _screen(search, method, affords, measure, warn, keep)
        turns = collections.deque(sorted(search.finalists(), key=lambda one: len(one.compared)))
        while turns and affords(turns[0].setting, problem.shares[1]):
            trial = turns.popleft()
            turn = 1 + len(trial.compared) // len(trial.screened)
            try:
                trial.compared += measure(trial.setting, turn, 0.0, never)
                turns.append(trial)
            except Pruned as seen:
                if trial.setting != problem.default:  # it was lucky at first
                    trial.screened, trial.compared, trial.reason = [], [], f"pruned: {seen}"
            keep(search)
    except KeyboardInterrupt:
        search.stopped = True
    if search.ranked and not all(trial.compared for trial in search.finalists()):
        for trial in search.trials.values():  # a part of a turn is no comparison
            trial.compared = []
        keep(search)
    return search


def _screen(
    search: Search[S],
    method: str,
    affords: Callable[[S, float], bool],
    measure: Callable[[S, int, float, Watch], list[float]],
    warn: Callable[[str], object],
    keep: Callable[[Search[S]], object],
) -> None:
    """Measure every suggested setting once while the budget lasts."""
    problem, trials = search.problem, search.trials
    broken: dict[Hashable, str] = {}
    for setting, watch in _suggestions(search, method):
        default = setting == problem.default
        if setting in trials:
            continue
        trial = Trial(setting)
        if reason := broken.get(problem.kind(setting)):
            trials[setting] = dataclasses.replace(trial, reason=reason)
            continue
        if not affords(setting, problem.shares[0]):
            if default:
                raise CannotTune("--budget: too little for one setting; give more seconds")
            if method == "bayes":
                break
            continue
        fastest = max((known.rate for known in trials.values()), default=0.0)
        try:
            trial.screened = measure(setting, 0, fastest, watch)
        except Pruned as seen:
            trial.reason = f"pruned: {seen}"
        except Exception as seen:
            # Code of the user may raise anything. A data set that cannot be pickled, for example,
            # has no workers under spawn.
            status, message = refusal.classify(seen)
            trial.reason = f"{status}: {message}"
            if trial.reason not in broken.values():
                warn(f"skipped: settings like {setting}: {trial.reason}")
            broken[problem.kind(setting)] = trial.reason
        if default and not trial.rates:
            raise CannotTune(f"the plain default ({setting}) is not measured: {trial.reason}")
        trials[setting] = trial
        keep(search)
