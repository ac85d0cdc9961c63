"""The commands `bench tune loader` and `bench tune training`."""

import math
import shlex
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.common import choose, fail, named_device, option_words, run_bar
from bench.cli.options import DIR, FILE, NAME, SECONDS, N

if TYPE_CHECKING:
    from bench.tune.search import Problem, Search
    from bench.tune.study import Study

app = typer.Typer(no_args_is_help=True, help="Find the fastest settings on this machine.")

Budget = Annotated[float, SECONDS(min=0, help="Seconds that the search may take.")]
Method = Annotated[str, NAME(help="manual (with --setting), grid, random or bayes (needs Optuna).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--setting", metavar="'NAME=VALUE ...'", help="Try this setting; repeatable."),
]
Dataset = Annotated[
    str | None, typer.Option(metavar="MODULE:NAME", help="Your function that returns a Dataset.")
]
Resume = Annotated[Path | None, FILE(help="Continue the search in this file.")]
Top = Annotated[int, N(min=1, help="Number of settings to show.")]


def _search(
    problem: "Problem[Any]",
    command: str,
    options: Sequence[str],
    method: str,
    budget: float,
    resume: Path | None,
    prove: "Callable[[Study[Any], Search[Any], float, Callable[[float, str], object]], None]",
) -> "tuple[Search[Any], Study[Any]]":
    """Run a search with a progress bar, and `prove` what it found; keep both in a file."""
    from bench.measure import environment
    from bench.tune import search, study

    environment.set_threads()
    machine = environment.current().key
    if resume:
        kept = study.resume(resume, options, machine, problem.settings)
    else:
        file = Path("tune") / f"{command}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
        kept = study.Study(file, options, machine)
    began = time.perf_counter()
    with run_bar() as bar:
        bar(stage="search", runs=1)

        def show(seconds: float, what: str) -> None:
            bar(run=1, done=int(seconds), total=int(budget), cell={"benchmark": what})

        found = search.run(
            *(problem, method, budget, kept.trials),
            warn=lambda line: bar(message=line),
            keep=kept.keep,
            show=show,
        )
        if found.settled and not found.stopped:
            spent = time.perf_counter() - began
            try:
                prove(kept, found, budget - spent, lambda more, what: show(spent + more, what))
            except KeyboardInterrupt:
                found.stopped = True
    return found, kept


def _end(found: "Search[Any]", kept: "Study[Any]", command: str, answer: Sequence[str]) -> None:
    """Print the answer, if there is one, and how to go on; exit with 3 without an answer."""
    if found.settled and found.trials[found.problem.default].rates:
        for line in answer:
            typer.echo(line)
    else:
        tried = f"{len(found.trials)} of at least {found.fewest} settings were tried"
        typer.echo(f"No answer yet: {tried}; give more --budget.")
    again = shlex.join(["bench", "tune", command, "--resume", str(kept.file), *kept.options])
    if kept.file.exists():
        typer.echo(f"\nKept in {kept.file}; to try more settings: {again}")
    if found.stopped:
        fail("stopped", 130)
    if not found.settled:
        raise typer.Exit(3)


def _chosen(method: str, words: Sequence[str] | None, default: Any, settings: list[Any]) -> Any:
    """Return the method and the settings: all, or the default and those that the user names."""
    from bench.tune import named, search

    choose("--method", method, search.METHODS)
    if not words:
        if method == "manual":
            fail("--method manual needs settings: --setting 'batch=64', repeatable")
        return method, settings
    given = [named.parsed(word, default, settings) for word in words]
    return "manual", list(dict.fromkeys([default, *given]))


@app.command()
def loader(
    budget: Budget = 60,
    method: Method = "grid",
    setting: Settings = None,
    dataset: Dataset = None,
    device: Annotated[str, NAME(help="Device that the batches are copied to.")] = "cpu",
    resume: Resume = None,
    top: Top = 8,
) -> None:
    """Find the DataLoader settings that load most samples per second."""
    from bench.report import tuning
    from bench.suite.axes import NOT_PINNED
    from bench.suite.loading import data
    from bench.tune import loader, named, search

    on = named_device(device)
    options = option_words(method=method, setting=setting, dataset=dataset, device=device)
    samples = named.called("--dataset", dataset) if dataset else data.custom_images()
    space = loader.space(pin=not on.is_host and on.torch_device.type not in NOT_PINNED)
    method, space = _chosen(method, setting, loader.Loading.default, space)
    task = loader.Loading(space, loader.sessions(samples, on))
    found, kept = _search(task, "loader", options, method, budget, resume, lambda *_: None)
    typer.echo(tuning.table(found, top, "samples/s"))
    answer = []
    if found.settled and found.ranked:
        best = loader.recommended(found)
        default = found.trials[task.default]
        ratio = search.factor(default.rates, best.rates)
        answer = tuning.answer(best.setting, task.default, ratio, "", loader.code)
    _end(found, kept, "loader", answer)


@app.command()
def training(
    budget: Budget = 180,
    method: Method = "grid",
    setting: Settings = None,
    device: Annotated[list[str] | None, NAME(help="Only this device; repeatable.")] = None,
    optimizer: Annotated[
        list[str] | None, NAME(help="Search it too: sgd, momentum, rmsprop, adam.")
    ] = None,
    lr: Annotated[
        list[float] | None,
        typer.Option(metavar="RATE", help="Learning rates to try; the first is the default."),
    ] = None,
    target: Annotated[float, N(help="Held-out loss to reach.")] = 0.5,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="Your function or class that makes a Module."),
    ] = None,
    dataset: Dataset = None,
    data_root: Annotated[Path | None, DIR(help="Folder of the real FashionMNIST.")] = None,
    resume: Resume = None,
    top: Top = 8,
) -> None:
    """Find the settings that reach a target loss soonest.

    Fresh processes compare the best one with the plain default.
    """
    from bench.measure import devices
    from bench.report import tuning
    from bench.suite.loading import data
    from bench.tune import named, proof, search
    from bench.tune import training as tune

    asked = map(named_device, device or devices.names())
    names = [one.name for one in asked if device or not one.fault()]
    for name in optimizer or ():
        choose("--optimizer", name, tune.OPTIMIZERS)
    if not all(math.isfinite(rate) and rate > 0 for rate in [*(lr or ()), target]):
        fail("--lr and --target: give numbers above 0")
    options = option_words(
        method=method, setting=setting, device=device, optimizer=optimizer, lr=lr, target=target
    )
    options += option_words(model=model, dataset=dataset, data_root=data_root)
    default, space = tune.space(names, optimizer or (), lr or ())
    method, space = _chosen(method, setting, default, space)
    make = proof.network(model or "")
    samples = named.called("--dataset", dataset) if dataset else data.in_memory(data_root)
    task = tune.task(make, samples)
    limit_s = max(budget, 60) / 10
    searched = tune.Training(
        *(default, space),
        lambda setting, seed, *rest: tune.train(task, setting, seed, target, *rest),
        limit_s,
    )
    failed = ""

    def prove(
        kept: "Study[Any]",
        found: "Search[Any]",
        left_s: float,
        show: Callable[[float, str], object],
    ) -> None:
        nonlocal failed
        winner = found.ranked[0].setting
        if kept.winner != winner:
            kept.winner, kept.proof = winner, {}
        if winner == default:
            return
        both = {"default": default, "winner": winner}
        seeds = proof.seeds(1 / found.trials[default].rate)
        try:
            with proof.fresh(task, model or "", target, limit_s) as train:
                proof.prove(both, seeds, train, kept.proof, left_s, kept.write, show)
        except search.Pruned as seen:
            failed = f"Not proven: a fresh process failed: {seen}"

    found, kept = _search(searched, "training", options, method, budget, resume, prove)
    typer.echo(tuning.table(found, top, "s"))
    answer = []
    if best := kept.winner or (found.ranked[0].setting if found.ranked else None):
        ratio, seen = (None, failed) if failed else proof.result(kept.proof, target)
        seen = "" if found.stopped and not ratio else seen
        loss = task.loss.__name__
        program = lambda setting: tune.code(setting, loss, model or "", dataset or "")  # noqa: E731
        answer = tuning.answer(best, default, ratio, seen, program)
    _end(found, kept, "training", answer)
