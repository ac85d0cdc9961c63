"""Give torch.compile the state of a new process on a new machine: nothing is compiled yet."""

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
    """Compile a tiny function, so that the first cell of a process does not include this start.

    Loading the compiler and detecting the CPU's instruction set take several times as long as
    compiling the network.
    """
    torch.compile(lambda x: -x)(torch.ones(8, device=device))


@contextlib.contextmanager
def fresh(device: torch.device) -> Iterator[None]:
    """Empty the caches of torch.compile while the context lasts.

    The cache in memory would compile the third batch size for any size, and from the ninth on run
    the plain code without an error. The cache on disk would let the next process compile nothing.
    Libraries that this process has built from the same source stay loaded, so a cell that is
    measured again compiles in less time.
    """
    _load(device)
    torch.compiler.reset()
    with (
        # In the compiler's own folder, because the system may forbid libraries elsewhere. Windows
        # cannot remove a loaded library.
        tempfile.TemporaryDirectory(
            prefix="bench-",
            dir=os.environ.get("TORCHINDUCTOR_CACHE_DIR"),
            ignore_cleanup_errors=True,
        ) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        # PyTorch reads both variables at each compilation.
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", folder)
        environment.setenv("TRITON_CACHE_DIR", str(Path(folder, "triton")))
        yield


def call_without_compiling(function: Callable[..., object], *args: Any) -> None:
    """Call compiled code again; raise RuntimeError if this call had to compile."""
    with torch.compiler.set_stance("fail_on_recompile"):
        function(*args)
