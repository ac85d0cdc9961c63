"""torch.compile as a new process on a new machine finds it, whatever was compiled before."""

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch


@functools.cache
def _load(device: torch.device) -> None:
    """Compile a trifle, so that the first cell of a process does not pay for the compiler's start.

    Loading it, and finding out what instructions the CPU has, take several times as long as
    compiling the network.
    """
    torch.compile(lambda x: -x)(torch.ones(8, device=device))


@contextlib.contextmanager
def fresh(device: torch.device) -> Iterator[None]:
    """Let torch.compile begin with nothing compiled before, while the context lasts.

    Left alone it remembers in memory: after two batch sizes the third is compiled for any size,
    and from the ninth on the plain code runs, without an error. And it remembers on disk, so that
    the next process compiles nothing. Libraries that this process has built from the same source
    are still found, so a cell that is measured again compiles in less time.
    """
    _load(device)
    torch.compiler.reset()
    with (
        # In the compiler's own folder, from which libraries may be loaded. Windows cannot remove
        # one while it is loaded.
        tempfile.TemporaryDirectory(
            prefix="bench-",
            dir=os.environ.get("TORCHINDUCTOR_CACHE_DIR"),
            ignore_cleanup_errors=True,
        ) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        # Both are read whenever something is compiled.
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", folder)
        environment.setenv("TRITON_CACHE_DIR", str(Path(folder, "triton")))
        yield


def compiles_no_more(function: Callable[..., object], *args: Any) -> None:
    """Call compiled code again; raises RuntimeError where it would have to be compiled for it."""
    with torch.compiler.set_stance("fail_on_recompile"):
        function(*args)
