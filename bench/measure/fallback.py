"""Operations that an accelerator handed to the CPU without being asked to."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.measure.devices import Device

#: How PyTorch words it for MPS with PYTORCH_ENABLE_MPS_FALLBACK=1 (ATen/mps/MPSFallback.mm).
_FELL_BACK = re.compile(r"operator '([^']+)'.*fall back to run on the CPU", re.S)


@contextmanager
def recorded(device: Device) -> Iterator[list[str]]:
    """Collect the names of the operators that fall back from `device` while the context lasts.

    PyTorch warns once per process, whichever operator it is, unless it is told to warn always.
    Other warnings pass through.
    """
    names: list[str] = []
    if device.is_host:
        yield names
        return
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield names
    finally:
        torch.set_warn_always(before)
        for warning in caught:
            found = _FELL_BACK.search(str(warning.message))
            if not found:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
            elif found[1] not in names:
                names.append(found[1])
