"""The command `bench fleet`: run the suite on every machine of a Dask cluster."""

import contextlib
import gc
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.common import choose, fail, new_folder
from bench.cli.options import DIR, FILE, NAME, SECONDS, N
from bench.records.lines import of_exception, one_line

if TYPE_CHECKING:
    from distributed import Client

    from bench.launch.roster import Roster

#: Any free port that only this machine reaches.
LOOPBACK = "127.0.0.1:0"
File = Annotated[Path | None, FILE(help="For a scheduler with TLS.")]


def fleet(
    context: typer.Context,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask scheduler; default: this machine alone."),
    ] = None,
    per: Annotated[str, NAME(help="What counts as a machine: host or worker.")] = "host",
    runs: Annotated[int, N(min=1, help="Fresh processes on each machine.")] = 1,
    time_limit: Annotated[float, SECONDS(min=1, help="Seconds that a machine may take.")] = 3600,
    folder: Annotated[Path | None, DIR(help="New folder for the CSVs (fleet/<UTC time>).")] = None,
    resume: Annotated[Path | None, DIR(help="Measure what is missing in this folder.")] = None,
    tls_ca_file: File = None,
    tls_cert: File = None,
    tls_key: File = None,
) -> None:
    """Run the suite on every machine of a cluster.

    Other options are passed to pytest, for example --device, --family and --profile. Exit status 1
    means that a machine failed.
    """
    try:
        from bench.launch import cluster, roster
    except ModuleNotFoundError as problem:
        if problem.name not in ("distributed", "dask"):
            raise
        fail("bench fleet needs Dask: pip install 'torch-device-bench[fleet]'")
    from rich.console import Console

    from bench.records.choices import UserError
    from bench.report.progress import FleetBars

    choose("--per", per, roster.PER)
    known = roster.Roster(list(context.args), runs, per)
    if resume:
        if folder:
            fail(f"--resume: {resume} is the folder; leave --folder out")
        asked = known
        try:
            known = roster.Roster.read(resume)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            fail(f"--resume: {resume / 'fleet.json'} was not written by bench fleet")
        # A file must not choose what pytest runs: the options are given again.
        if (asked.arguments, asked.runs, asked.per) != (known.arguments, known.runs, known.per):
            fail(f"--resume: {resume} was started with {_words(known)}; give the same options")
    kept = resume or new_folder(folder, "fleet")
    tls = {"tls_ca_file": tls_ca_file, "tls_client_cert": tls_cert, "tls_client_key": tls_key}
    ended: list[cluster.MachineResult] = []
    with _connected(scheduler, tls) as client:
        try:
            nodes, problems = cluster.find(client, known)
        except roster.UnknownMachine as problem:
            fail(f"--resume: {problem}")
        if not nodes and not problems:
            fail("--scheduler: no worker has joined it; start workers, and try again")
        away = known.machines.keys() - known.complete - {node.label for node in nodes}
        problems += [f"{label} is missing and not complete" for label in sorted(away)]
        for line in (*cluster.differences(nodes), *problems):
            typer.echo(line, err=True)
        todo = [node for node in nodes if node.label not in known.complete]
        try:
            kept.mkdir(parents=True, exist_ok=True)
            known.write(kept)
            with FleetBars(Console(stderr=True)) as bars:
                measuring = cluster.Fleet(
                    client, kept, known.arguments, known.runs, time_limit, bars
                )
                for one in measuring.measure(todo):
                    ended.append(one)
                    known.complete += [one.label] if one.code in (0, 1) else []
                    known.write(kept)
        except UserError:  # of which CannotWrite is an OSError too
            raise
        except OSError as problem:
            what = f"{kept} or the scheduler cannot be reached: {of_exception(problem)}"
            fail(f"{what}; continue with --resume {kept} {_words(known)}")
        except KeyboardInterrupt:
            fail(f"stopped; continue with bench fleet --resume {kept} {_words(known)}", 130)
    done = f"{len(known.complete)} machines complete, in {kept}"
    typer.echo(f"{done}; bench compare {kept} --outliers")
    lost = [one for one in ended if one.code not in (0, 1)]
    if lost:
        typer.echo(f"continue with bench fleet --resume {kept} {_words(known)}", err=True)
    raise typer.Exit(1 if lost or problems or any(one.code for one in ended) else 0)


def _words(known: "Roster") -> str:
    """Return the options that a fleet was started with."""
    return shlex.join([f"--per={known.per}", f"--runs={known.runs}", *known.arguments])


@contextlib.contextmanager
def _connected(scheduler: str | None, tls: dict[str, Path | None]) -> Iterator["Client"]:
    """Connect to the scheduler, or to a new cluster of this machine alone."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    from bench.launch.node import NANNY_SETTING

    given = {name: str(path) for name, path in tls.items() if path}
    options: dict[str, Any] = {"set_as_default": False}
    if given:
        options["security"] = Security(require_encryption=True, **given)
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            # A worker in a thread needs no port, and Ctrl-C reaches no other process. Dask must not
            # set variables here, nor sample the stacks of this process while the suite is timed. It
            # always has HTTP servers: they serve no page, on the loopback interface.
            settings = {NANNY_SETTING: {}, "distributed.worker.profile.enabled": False}
            settings |= {f"distributed.{who}.http.routes": [] for who in ("scheduler", "worker")}
            stack.enter_context(dask.config.set(settings))
            own = LocalCluster(
                n_workers=1,
                threads_per_worker=1,
                processes=False,
                dashboard_address=LOOPBACK,
                worker_dashboard_address=LOOPBACK,
                scheduler_kwargs={"dashboard": False},
                memory_limit=None,
                silence_logs=logging.ERROR,
            )
            options["address"] = stack.enter_context(own)
        else:
            options |= {"address": scheduler, "timeout": 15}
        client, what = None, ""
        try:
            client = stack.enter_context(Client(**options))
        except (OSError, ValueError, TypeError) as problem:
            what = one_line(str(problem))
        if client is None:
            # It closes itself when it is collected. If the next one of this process is starting
            # then, it waits for itself for ever.
            gc.collect()
            fail(f"--scheduler {scheduler}: {what}; is it up, and reachable from here?")
        yield client
