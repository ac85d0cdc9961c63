"""Ways to break the kernel of a benchmark: changes of its result, of its arguments, of its inside.

`broken` returns an operation with a fault. It raises `NotApplied` where the fault changes nothing.
"""

import fnmatch
import functools
import itertools
from collections.abc import Callable
from typing import Any

from bench.measure.arguments import copies
from bench.measure.proofs import same_bits
from tests.validation.broken_calls import ARGUMENTS, INSIDE, Buffer, broken_inside, skipped, stale
from tests.validation.broken_results import (
    VALUES,
    NotApplied,
    change_values,
    wrong_alias,
    wrong_device,
    wrong_dtype,
    wrong_strides,
)
from tests.validation.broken_states import PASSES, STATES, broken_pass, broken_state

#: Pattern of the names of cells -> breaks that are none there.
NO_FAULT: dict[str, tuple[str, ...]] = {
    # They promise no values.
    "bench_empty*": (*VALUES, "skipped", "stale", "later calls wrong"),
    # The strides follow from the algorithm, or from the library that reads the image.
    "bench_conv2d*": ("strides",),
    "bench_read_image*": ("strides",),
    "bench_to_tensor*": ("strides",),
    "bench_first_batch*": ("strides",),
    "bench_lambda_in_worker*": ("strides",),
    # Those of a gradient are a part of what these benchmarks time, not of what they promise.
    **dict.fromkeys(("bench_*backward*", "bench_step*", "bench_autocast_step*"), ("strides",)),
    "bench_compiled*": ("strides",),
    # Any other order is right, and so is that of a sum.
    "bench_loader_shuffle*yes*": ("batches swapped",),
    "bench_read_loss*": ("swapped", "float64 by 1e-12"),
    # The result in float64 comes from sums in float32 or less.
    **dict.fromkeys(("bench_epoch*", "bench_step_part*"), ("float64 by 1e-12",)),
}


def is_fault(cell: str, name: str) -> bool:
    """Return whether a break makes the answer of a cell wrong."""
    return not any(fnmatch.fnmatch(cell, like) and name in no for like, no in NO_FAULT.items())


def broken(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operation with a fault, in every call or (`later ...`) from the second one on."""
    calls, buffer = itertools.count(1), Buffer()
    if name in INSIDE:
        return broken_inside(operation, INSIDE[name])
    if name in STATES:
        return broken_state(operation, STATES[name])
    if name in PASSES:
        return broken_pass(operation, PASSES[name])

    @functools.wraps(operation, assigned=("__name__",), updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        if name == "skipped":
            return skipped(operation, args, kwargs)
        if name == "stale":
            return stale(operation, args, kwargs)
        if name in ARGUMENTS:
            plain = operation(*copies(args), **kwargs)
            args = ARGUMENTS[name](args)
        result = operation(*args, **kwargs)
        if name in ARGUMENTS and same_bits(plain, result):
            raise NotApplied
        if name in VALUES:
            return change_values(result, VALUES[name])
        if name == "later calls wrong":
            return change_values(result, VALUES["all zero"]) if number > 1 else result
        if name == "wrong dtype":
            return wrong_dtype(result)
        if name == "one memory":
            return buffer.holding(result, args)
        if name == "strides":
            return wrong_strides(result)
        if name == "wrong device":
            return wrong_device(result)
        if name == "wrong alias":
            return wrong_alias(result, args)
        return result

    return faulty


NAMES = (
    *VALUES,
    *("skipped", *ARGUMENTS, "stale", "wrong dtype", "strides", "wrong device", "wrong alias"),
    *("one memory", "later calls wrong", *INSIDE, *STATES, *PASSES),
)
