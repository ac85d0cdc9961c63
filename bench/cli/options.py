"""Options by what they take, as `--help` shows it: ``--runs N``, ``--output FILE``."""

import functools

import typer

N, NAME, FILE, DIR, SECONDS, PERCENT = (
    functools.partial(typer.Option, metavar=what)
    for what in ("N", "NAME", "FILE", "DIR", "SECONDS", "PERCENT")
)
