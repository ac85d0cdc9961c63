"""The state of this process that a benchmark may change: read before a cell, restored after it."""

import contextlib
import faulthandler
import gc
import locale
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.records import files

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_STORAGES = (torch.TypedStorage, torch.UntypedStorage)


class Part(NamedTuple):
    """One piece of state: its name, how to read it, and how to set it to what was read."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]


def _flushes_denormals() -> bool:
    return float(torch.tensor(1e-310, dtype=torch.float64) / 2) == 0


def _default_device() -> str | None:
    """Return the default device, None for the CPU: to set it slows down every call."""
    found = str(torch.get_default_device())
    return None if found == "cpu" else found


#: Contexts that end with their objects, and so would be left at once.
_LEFT: list[torch.inference_mode] = []


def _set_inference_mode(was: bool) -> None:
    grad = torch.is_grad_enabled()  # which the context would set too
    _LEFT.append(torch.inference_mode(was))
    _LEFT[-1].__enter__()
    torch.set_grad_enabled(grad)


def _autocast(device: str) -> Part:
    def read() -> tuple[bool, torch.dtype]:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def restore(was: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, was[0])
        torch.set_autocast_dtype(device, was[1])

    return Part(f"autocast on {device}", read, restore)


def _several(
    name: str, keys: Iterable[Any], read: Callable[[Any], Any], write: Callable[[Any, Any], object]
) -> Part:
    """Return a part of several values by key, of which only those that differ are set."""

    def restore(was: dict[Any, Any]) -> None:
        for key, value in was.items():
            if read(key) != value:
                write(key, value)

    return Part(name, lambda: {key: read(key) for key in keys}, restore)


def _attributes(name: str, owner: Any, *attributes: str) -> Part:
    return _several(name, attributes, partial(getattr, owner), partial(setattr, owner))


def _set_profiler(was: Any) -> None:
    if was is None or callable(was):
        sys.setprofile(was)
    else:  # cProfile before Python 3.12
        was.enable()


def _set_environ(was: dict[str, str]) -> None:
    for name in os.environ.keys() - was.keys():
        del os.environ[name]
    os.environ.update(was)


def _set_folder(was: str) -> None:
    os.makedirs(was, exist_ok=True)  # pytest returns to it at its end, though it was deleted
    os.chdir(was)


def _set_path(was: list[str]) -> None:
    """Put what was added behind the rest: a library may have added what it still needs."""
    sys.path[:] = [*was, *(folder for folder in sys.path if folder not in was)]


def _read_environ() -> dict[str, str]:
    # pytest writes its own progress there.
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def _constants(module: Any, prefix: str) -> set[int]:
    """Return the numbers of a module whose names start like this."""
    return {getattr(module, name) for name in dir(module) if name.startswith(prefix)}


def _start_method() -> str:
    set_ = multiprocessing.get_start_method(allow_none=True)
    return set_ or multiprocessing.get_all_start_methods()[0]


PARTS = (
    Part("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Part("default device", _default_device, torch.set_default_device),
    Part("number of threads", torch.get_num_threads, torch.set_num_threads),
    Part("grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Part("inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
    Part(
        "deterministic algorithms",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda was: torch.use_deterministic_algorithms(was[0], warn_only=was[1]),
    ),
    Part(
        "matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    Part(
        "anomaly mode",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda was: torch.autograd.set_detect_anomaly(*was),
    ),
    Part("denormals", _flushes_denormals, torch.set_flush_denormal),
    _attributes("oneDNN", torch.backends.mkldnn, "enabled"),
    _attributes(
        "cuDNN", torch.backends.cudnn, "enabled", "benchmark", "deterministic", "allow_tf32"
    ),
    _attributes("engine of quantized operators", torch.backends.quantized, "engine"),
    _several(
        "kernels of attention",  # those of `torch.backends.cuda` apply to the CPU too
        ("flash", "mem_efficient", "math", "cudnn"),
        lambda kernel: getattr(torch.backends.cuda, f"{kernel}_sdp_enabled")(),
        lambda kernel, was: getattr(torch.backends.cuda, f"enable_{kernel}_sdp")(was),
    ),
    _autocast("cpu"),
    _autocast("cuda"),
    Part("garbage collection", gc.isenabled, lambda was: gc.enable() if was else gc.disable()),
    Part("garbage collection debugging", gc.get_debug, gc.set_debug),
    Part("garbage collection thresholds", gc.get_threshold, lambda was: gc.set_threshold(*was)),
    Part(
        "tracing of memory",
        tracemalloc.is_tracing,
        lambda was: tracemalloc.start() if was else tracemalloc.stop(),
    ),
    _attributes("clocks", time, "perf_counter", "perf_counter_ns", "monotonic", "time"),
    _attributes("standard streams", sys, "stdin", "stdout", "stderr"),
    Part("folders of modules", lambda: list(sys.path), _set_path),
    Part(
        "locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda was: locale.setlocale(locale.LC_ALL, was),
    ),
    Part("tracer", sys.gettrace, sys.settrace),
    Part("profiler", sys.getprofile, _set_profiler),
    Part("tracer of threads", threading.gettrace, threading.settrace),
    Part("profiler of threads", threading.getprofile, threading.setprofile),
    Part("errors of NumPy", np.geterr, lambda was: np.seterr(**was)),
    Part("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Part("switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Part("working directory", os.getcwd, _set_folder),
    Part("mask of new files", files.umask, os.umask),
    _several(
        "signal handlers",
        # Libraries set that of SIGCHLD once per process, as torch does for workers of a DataLoader.
        signal.valid_signals() - {getattr(signal, "SIGCHLD", None)},
        signal.getsignal,
        # None is a handler that Python has not set.
        lambda number, was: None if was is None else signal.signal(number, was),
    ),
    Part(
        "signal mask",
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        lambda was: signal.pthread_sigmask(signal.SIG_SETMASK, was),
    ),
    _several(
        "timer",  # one that is pending kills the next cell
        _constants(signal, "ITIMER_"),
        lambda timer: signal.getitimer(timer)[0] > 0,
        lambda timer, pending: None if pending else signal.setitimer(timer, 0),
    ),
    Part("CPUs", lambda: os.sched_getaffinity(0), lambda was: os.sched_setaffinity(0, was)),
    _several(
        "resource limits",
        _constants(resource, "RLIMIT_"),
        lambda number: resource.getrlimit(number),
        lambda number, was: resource.setrlimit(number, was),
    ),
    Part(
        "start method of processes",
        _start_method,
        lambda was: multiprocessing.set_start_method(was, force=True),
    ),
    Part(
        "sharing of tensors",
        torch.multiprocessing.get_sharing_strategy,
        torch.multiprocessing.set_sharing_strategy,
    ),
    Part("environment variables", _read_environ, _set_environ),
    Part(
        "niceness",  # not on Windows
        lambda: os.getpriority(os.PRIO_PROCESS, 0),
        lambda was: os.setpriority(os.PRIO_PROCESS, 0, was),
    ),
)


def read() -> dict[str, Any]:
    """Return the state by name; a part that cannot be read is left out."""
    found = {}
    for part in PARTS:
        with contextlib.suppress(OSError, RuntimeError, AttributeError):
            found[part.name] = part.read()
    return found


def restore(before: dict[str, Any]) -> list[str]:
    """Set what differs from `before` back; return the names of these parts."""
    changed = []
    for part in PARTS:
        if part.name not in before:
            continue
        with contextlib.suppress(OSError, RuntimeError, AttributeError, ValueError):
            try:
                same = part.read() == before[part.name]
            except OSError:  # the working directory is gone
                same = False
            if not same:
                changed.append(part.name)
                part.restore(before[part.name])
    return changed


def _chain(raised: BaseException) -> list[BaseException]:
    """Return an exception, and those that it replaced."""
    chain = [raised]
    for one in chain:
        chain += [link for link in (one.__cause__, one.__context__) if link and link not in chain]
    return chain


def _release(raised: BaseException) -> None:
    """Clear frames of the traceback of an exception, and of those that it replaced.

    pytest shows the arguments of some frames, and a storage prints each of its numbers: of 128 MiB,
    that takes an hour. After Ctrl-C nobody needs any frame, and they keep workers alive.
    """
    for one in _chain(raised):
        for frame, _ in traceback.walk_tb(one.__traceback__):
            held = frame.f_locals.values()
            if isinstance(raised, KeyboardInterrupt) or any(isinstance(x, _STORAGES) for x in held):
                with contextlib.suppress(RuntimeError):  # it is still running
                    frame.clear()


@contextlib.contextmanager
def kept(close: Callable[[], object]) -> Iterator[list[str]]:
    """Run a benchmark in this context; yield the names of the parts of state that it changes.

    At the end, `close` undoes what its cell has opened, and what it has changed is restored. A
    forked child that comes here ends: the other cells are not its own. Nothing replaces Ctrl-C: it
    also ends workers, whose end makes PyTorch raise RuntimeError meanwhile.
    """
    try:
        with _kept(close) as changed:
            yield changed
    except Exception as raised:
        if any(isinstance(one, KeyboardInterrupt) for one in _chain(raised)):
            raise KeyboardInterrupt from None
        raise


@contextlib.contextmanager
def _kept(close: Callable[[], object]) -> Iterator[list[str]]:
    changed: list[str] = []
    before, process = read(), os.getpid()
    try:
        yield changed
    except BaseException as raised:
        _release(raised)
        raise
    finally:
        if os.getpid() != process:
            os._exit(0)
        try:
            close()
        finally:
            faulthandler.cancel_dump_traceback_later()  # it may end the process in another cell
            changed += restore(before)


@contextlib.contextmanager
def tracers_paused() -> Iterator[None]:
    """Pause coverage, profilers and debuggers of this thread, which slow down Python code."""
    trace, profile = sys.gettrace(), sys.getprofile()
    monitoring: Any = getattr(sys, "monitoring", None)
    held: list[tuple[int, int, Any]] = []
    events: dict[int, int] = {}
    if monitoring:
        for tool in range(6):
            if monitoring.get_tool(tool) is None:
                continue
            events[tool] = monitoring.get_events(tool)
            for name, event in vars(monitoring.events).items():
                if name.isupper() and event and name != "BRANCH":
                    with contextlib.suppress(ValueError):
                        call = monitoring.register_callback(tool, event, None)
                        held += [(tool, event, call)] if call else []
            monitoring.set_events(tool, 0)
    sys.settrace(None)
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.settrace(trace)
        _set_profiler(profile)
        for tool, event, call in held:
            monitoring.register_callback(tool, event, call)
        for tool, mask in events.items():
            monitoring.set_events(tool, mask)
