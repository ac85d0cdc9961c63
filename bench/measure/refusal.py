"""What a backend did instead of the operation: refuse it, run out of memory, use the CPU."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.measure.answer import WrongAnswer
from bench.measure.devices import Device
from bench.records import lines

# PyTorch has no exception of its own for "this backend lacks that"; these are its messages.
_UNSUPPORTED = re.compile(
    r"not implemented for|not (currently )?(supported|implemented)|unsupported|"
    r"does(n't| not) (have )?support|no support for|(only )?supported on macos|"
    r"is not available for|could not run .* with arguments from|undefined type|"
    r"no kernel image is available|cannot find a working triton|"
    r"compiler: \S+ is not found|no working c\+\+ compiler",
    re.IGNORECASE,
)
#: What torch.compile adds around the reason of its backend.
_COMPILED = re.compile(r"backend='\w+' raised:\s*(.+?)(\n\s*\nSet TORCH|$)", re.DOTALL)
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can(no|')t allocate memory|failed to allocate", re.IGNORECASE
)
#: Its warning on MPS with PYTORCH_ENABLE_MPS_FALLBACK=1 (ATen/mps/MPSFallback.mm).
_FELL_BACK = re.compile(r"operator '([^']+)'.*fall back to run on the CPU", re.S)
#: Its warnings when autocast or a GradScaler disables itself (torch/amp).
_DISABLED = re.compile(r"Disabling( autocast)?\.?\s*($|\n)")
#: Note of an exception that the check of an answer raised, not the operation.
_CHECKING = "raised while its answer was checked"


class DeviceLost(Exception):
    """An earlier cell has made the device of this one unusable; the message is one line."""


def classify(exception: BaseException) -> tuple[str, str]:
    """Return the status and the reason, one line, of a cell that raised `exception`."""
    text = lines.text_of(exception)
    in_worker = "\nOriginal Traceback" in text
    if in_worker:  # a DataLoader passes it on with its traceback, whose last line names the cause
        text = lines.last_line(text)
    if found := _COMPILED.search(text):
        inner = found[1].splitlines()
        text = next(filter(_UNSUPPORTED.search, inner), inner[0])
    reason = lines.one_line(text) or type(exception).__name__
    if isinstance(exception, WrongAnswer):
        return "wrong", reason
    if isinstance(exception, DeviceLost):
        return "error", reason
    if isinstance(exception, (MemoryError, torch.OutOfMemoryError)):
        return "oom", reason
    if isinstance(exception, RuntimeError) and _OUT_OF_MEMORY.search(text):
        return "oom", reason
    refused = isinstance(exception, (RuntimeError, TypeError)) and _UNSUPPORTED.search(text)
    if _CHECKING in getattr(exception, "__notes__", ()):
        reason = lines.of_exception(exception)
        return "error", f"the answer could not be checked: {reason}; pass the cell a `check`"
    if refused or isinstance(exception, NotImplementedError):
        return "unsupported", reason
    return "error", reason if in_worker else lines.of_exception(exception)


@contextmanager
def checking() -> Iterator[None]:
    """Mark what the suite's own check of an answer raises: the backend has not refused."""
    try:
        yield
    except Exception as raised:
        raised.add_note(_CHECKING)
        raise


@contextmanager
def fallbacks(device: Device) -> Iterator[list[str]]:
    """Collect the names of the operators that run on the CPU instead of `device`.

    PyTorch warns once per process, not once per operator, unless warnings are always on. Other
    warnings pass through. Raises NotImplementedError if autocast has disabled itself with a
    warning, because the operation then ran in another dtype than asked for.
    """
    names: list[str] = []
    disabled = ""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield names
    finally:
        torch.set_warn_always(before)
        for warning in caught:
            text = str(warning.message)
            found = _FELL_BACK.search(text)
            if _DISABLED.search(text):
                disabled = text
            elif not found:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
            elif found[1] not in names:
                names.append(found[1])
    if disabled:
        raise NotImplementedError(disabled)
