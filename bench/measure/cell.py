"""One cell: what a benchmark body uses to make data, declare work and time one call."""

import contextlib
import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.measure import answer, cgroup, disturbance, fallback, operands, rounds
from bench.measure.answer import Answer, WrongAnswer
from bench.measure.devices import Device

#: Length of the random block that large inputs repeat: a prime, so that no power-of-two offset
#: into a tensor finds the same values again.
BLOCK = 65_521


Entered = TypeVar("Entered")
#: Takes the rounds of a cell (None where it was not timed) and the call that was timed.
HandOver = Callable[[rounds.Timing | None, Callable[[], object]], object]


class Disturbed(Exception):
    """The rounds were disturbed, and the cell is to be measured again later in the run."""


@dataclass
class Result:
    """What has been learnt of a cell so far; None where it was not measured."""

    answer: Answer = field(default_factory=Answer)
    first_call_s: float | None = None
    timing: rounds.Timing | None = None
    signs: disturbance.Signs = field(default_factory=lambda: disturbance.Signs(None, None))
    device_s: float | None = None
    dispatch_s: float | None = None
    peak_bytes: int | None = None
    fell_back: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items: int | None = None
    item_unit: str | None = None
    bytes: int | None = None
    flop: int | None = None


def _disturbance(result: Result) -> tuple[int, float]:
    """Sort key of disturbed attempts: fewer faults first, then the shorter time."""
    assert result.timing
    return len(result.signs.faults), statistics.median(result.timing.rounds_s)


@functools.cache
def _block(floating: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2147)
    if not floating:
        return torch.randint(1, 100, (BLOCK,), generator=generator)
    sign = torch.randint(0, 2, (BLOCK,), generator=generator) * 2 - 1
    return (torch.rand(BLOCK, generator=generator) + 0.5) * sign


class Cell:
    """One benchmark on one device, in one dtype, with one set of params.

    A body makes its data with `tensor`, declares the work of one iteration with `work`, and
    calls the cell once with the operation and its arguments: the answer is checked, then the
    call is timed.
    """

    def __init__(
        self,
        device: Device,
        dtype: torch.dtype,
        plan: rounds.Plan | None,
        clock_cost_s: float = 0.0,
        hand_over: HandOver | None = None,
        yardsticks: disturbance.Yardsticks | None = None,
        earlier: list[Result] | None = None,
        may_repeat: bool = False,
        unbind: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        data_root: Path | None = None,
        download: bool = False,
    ) -> None:
        """Time on `device` as `plan` says; no plan means check the answer and time nothing.

        `earlier` holds the results of disturbed attempts at the same cell, and takes this one's
        if it is disturbed too; where it may not be repeated, the best of them stands. `unbind` lets
        the main thread run on every CPU while its context lasts. Data sets lie in `data_root`,
        or are fetched to there with `download`; without one they are made up.
        """
        self._device = device
        self._plan = plan
        self._clock_cost_s = clock_cost_s
        self._hand_over = hand_over
        self._yardsticks = yardsticks
        self._earlier = [] if earlier is None else earlier
        self._may_repeat = may_repeat
        self._unbind = unbind
        self._left_open = contextlib.ExitStack()
        self._uses_processes = False
        self.device = device.torch_device
        self.dtype = dtype
        self.data_root = data_root
        self.download = download
        self.result = Result()

    def enter(self, context: contextlib.AbstractContextManager[Entered]) -> Entered:
        """Enter a context that lasts until the cell has ended; return what it gives."""
        return self._left_open.enter_context(context)

    def close(self) -> None:
        """Leave the contexts that were entered, the last one first."""
        self._left_open.close()

    def uses_processes(self) -> None:
        """Say that the timed call works with processes of its own.

        They may run on every CPU, and that they use the CPU is no disturbance.
        """
        self._uses_processes = True
        self.enter(self._unbind())

    def note(self, text: str) -> None:
        """Put `text` into the reason of the row, whatever its status."""
        self.result.notes.append(text)

    def unchecked(self, *_: object, **__: object) -> Answer:
        """Leave the answer of a call unchecked, where another cell checks it."""
        return Answer()

    def tensor(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return a tensor of `shape` on the cell's device, in its dtype, of ordinary numbers.

        Floating point has a magnitude in [0.5, 1.5) and a random sign: neither zeros nor
        denormals, on which hardware runs at another speed. Integers lie in [1, 100), bools are
        random. The values are the same in every run; `dtype` replaces the cell's own.
        """
        dtype = dtype or self.dtype
        block = _block(dtype.is_floating_point)
        # Converted before it is repeated and moved: a device may lack the wider dtype.
        block = block % 2 == 0 if dtype == torch.bool else block.to(dtype)
        count = torch.Size(shape).numel()
        flat = block.repeat(-(-count // BLOCK))[:count].clone()
        return flat.reshape(shape).to(self.device)

    def nbytes(self, count: int) -> int:
        """Bytes of `count` elements of the cell's dtype."""
        return count * self.dtype.itemsize

    def work(
        self,
        *,
        items: int | None = None,
        unit: str = "element",
        bytes: int | None = None,
        flop: int | None = None,
    ) -> None:
        """Declare the work of one iteration from first principles.

        `items` in `unit`; `bytes` an ideal implementation must read and write; `flop` it must do.
        """
        self.result.items, self.result.item_unit = items, unit if items is not None else None
        self.result.bytes, self.result.flop = bytes, flop

    def __call__(
        self,
        operation: Callable[..., Any],
        *args: Any,
        terms: int = 1,
        check: Callable[..., Answer] | None = None,
        proof: Callable[..., None] | None = None,
        against: Callable[..., Any] | None = None,
        norm: float = math.inf,
        **kwargs: Any,
    ) -> None:
        """Check ``operation(*args, **kwargs)``, then time it.

        `terms`: how many summands each element of the answer accumulates (widens the tolerance).
        `check`: replaces the comparison with the reference, as ``check(result, *args, **kwargs)``.
        `proof`: a further demand on the result; it raises WrongAnswer where it is not met.
        `against`: what gives the reference from the same arguments, where that is not `operation`.
        `norm`: how the deviation is measured, see `answer.compare`.

        Raises WrongAnswer after timing where the answer is wrong; whatever the operation raises
        passes through.
        """
        if isinstance(operation, torch.nn.Module):  # whose parameters are arguments, too
            operation, args = type(operation).__call__, (operation, *args)
        expected = against or operation
        fault = self._check(operation, args, kwargs, terms, check, proof, expected, norm)
        # What was wrong once is not asked again: the next answer might happen to be right.
        self._may_repeat = self._may_repeat and not fault
        call = functools.partial(operation, *args, **kwargs)
        if self._plan is not None:
            before = operands.health(operation, args, kwargs)
            self._time(
                self._plan,
                rounds.compile_loop(operation, args, kwargs, self._device.clock),
                rounds.compile_loop(operation, args, kwargs, self._device.now),
                call,
            )
            after = operands.health(operation, args, kwargs)
            fault = fault or operands.fault(before, after)
            if note := operands.note(before, after):
                self.note(note)
        if self._hand_over:
            self._hand_over(self.result.timing, call)
        if fault:
            raise WrongAnswer(fault)

    def loop(self, loop: rounds.Loop, check: Callable[[], Answer]) -> None:
        """Check and time what processes of its own run, and time themselves.

        ``loop(n)`` runs it `n` times in a row and returns the seconds that took; `check` returns
        how far its answer is from the reference. Raises WrongAnswer after timing.
        """
        if not self._uses_processes:
            self.uses_processes()
        self.result.first_call_s = loop(1)
        self.result.answer = check()
        self._may_repeat = self._may_repeat and not self.result.answer.fault
        if self._plan is not None:
            self._time(self._plan, loop)
        if self._hand_over:
            self._hand_over(self.result.timing, functools.partial(loop, 1))
        if self.result.answer.fault:
            raise WrongAnswer(self.result.answer.fault)

    def _time(
        self,
        plan: rounds.Plan,
        loop: rounds.Loop,
        free: rounds.Loop | None = None,
        call: Callable[[], object] | None = None,
    ) -> None:
        """Fill in the timing and its signs; raise Disturbed where another attempt is due.

        `free` does not wait for the device; it and `call` are missing where another process has
        the device.
        """
        if plan.once:
            self.result.timing = rounds.once(loop)
            return
        try:
            self._time_rounds(plan, loop)
            disturbed = bool(self.result.signs.faults)
            if disturbed:
                self._earlier.append(self.result)
        except disturbance.NeverCalm:
            disturbed = True
        else:
            if disturbed and self._may_repeat:
                raise Disturbed("; ".join(self.result.signs.faults))
        if disturbed:
            found = self.result.answer
            self.result = min(self._earlier, key=_disturbance)
            self.result.answer = found
        assert self.result.timing
        call_s = statistics.median(self.result.timing.rounds_s)
        if free and not self._device.is_host:
            self.result.dispatch_s = rounds.dispatch(free, self._device.synchronize, call_s)
            self.result.device_s = rounds.device_time(free, self._device, call_s)
        if call and self._device.peak_bytes:
            self.result.peak_bytes = self._device.peak_bytes(call)

    def _time_rounds(self, plan: rounds.Plan, loop: rounds.Loop) -> None:
        """Time the rounds and judge what was seen meanwhile; raises NeverCalm, see `Watch`."""
        start, quota = time.perf_counter(), cgroup.throttling()
        if self._uses_processes:
            timing = rounds.measure(loop, plan, self._clock_cost_s)
            signs = disturbance.judge(timing.rounds_s, timing.iterations, None, 0.0)
        else:
            sticks = self._yardsticks or disturbance.yardsticks_of_the_core()
            if not self._device.is_host:  # whose threads have no part in it
                sticks = dataclasses.replace(sticks, team=None, pace=None)
            again = bool(self._earlier)
            watch = disturbance.Watch(sticks, patient=again or not self._may_repeat, again=again)
            timing = rounds.measure(loop, plan, self._clock_cost_s, watch)
            signs = watch.signs(timing.rounds_s, timing.iterations, timing.calm)
        stopped = disturbance.throttled(quota, cgroup.throttling(), time.perf_counter() - start)
        if stopped:
            signs = dataclasses.replace(signs, faults=(*signs.faults, stopped))
        self.result.timing, self.result.signs = timing, signs

    def _check(
        self,
        operation: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        terms: int,
        check: Callable[..., Answer] | None,
        proof: Callable[..., None] | None,
        against: Callable[..., Any],
        norm: float,
    ) -> str:
        """Fill in `answer` and `first_call_s`; return what is wrong, or an empty string."""
        unrepeatable = ""
        used_args, used_kwargs = answer.fresh((args, kwargs))
        with fallback.recorded(self._device) as self.result.fell_back:
            start = self._device.clock()
            result = operation(*used_args, **used_kwargs)
            first_call_s = self._device.clock() - start
        # What starts, compiles or warms up does so at the first attempt alone.
        if self._earlier:
            self.result.first_call_s = self._earlier[0].first_call_s
        elif first_call_s > 0:  # by a coarse clock a short call takes no time
            self.result.first_call_s = first_call_s
        if check is None:
            again_args, again_kwargs = answer.fresh((args, kwargs))
            again = operation(*again_args, **again_kwargs)
            self._device.synchronize()
            if not answer.repeatable(result, again):
                unrepeatable = "not repeatable: two calls on the same input give different bits"
        if check is not None:
            self.result.answer = check(result, *used_args, **used_kwargs)
        else:
            expected = answer.reference(against, args, kwargs)
            self.result.answer = answer.compare(result, expected, self.dtype, terms, norm)
        if proof is not None and not self.result.answer.fault:
            try:
                proof(result, *used_args, **used_kwargs)
            except WrongAnswer as failed:
                return str(failed)
        return self.result.answer.fault or unrepeatable
