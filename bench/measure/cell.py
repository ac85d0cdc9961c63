"""One cell: a benchmark function makes its data, declares its work and times one call."""

import contextlib
import functools
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.measure import disturbance, kernels, operands, rounds, state
from bench.measure.answer import Answer, WrongAnswer
from bench.measure.checks import Check, Result, first_call
from bench.measure.devices import Device
from bench.measure.disturbance import Visit

#: Length of the random block that large inputs repeat: a prime, so that values at a power-of-two
#: distance in a tensor differ.
BLOCK = 65_521

#: From these seconds of the first call on, a call is slow.
SLOW_S = 0.2
#: A call that moves this many bytes leaves the caches: then the bandwidth of the memory counts.
STREAM_BYTES = 16 * 2**20

Entered = TypeVar("Entered")
#: Takes the visit to a cell (None if it was not timed) and the call that was timed.
HandOver = Callable[[Visit | None, Callable[[], object]], object]


@functools.cache
def _block(floating: bool, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2147 + seed)
    if not floating:
        return torch.randint(1, 100, (BLOCK,), generator=generator)
    sign = torch.randint(0, 2, (BLOCK,), generator=generator) * 2 - 1
    return (torch.rand(BLOCK, generator=generator) + 0.5) * sign


class Cell:
    """One benchmark on one device, in one dtype, with one set of params.

    A benchmark function makes its data with `tensor` and declares the work of one iteration with
    `work`. Then it calls the cell once, with the operation and its arguments. The cell checks the
    answer, then times the call.
    """

    def __init__(
        self,
        device: Device,
        dtype: torch.dtype,
        plan: rounds.Plan | None,
        clock_cost_s: float = 0.0,
        hand_over: HandOver | None = None,
        reference: kernels.ReferenceKernels | None = None,
        earlier: Result | None = None,
        unpinned: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        data_root: Path | None = None,
        download: bool = False,
    ) -> None:
        """Time on `device` according to `plan`; without a plan, only check the answer.

        `reference` are the reference kernels of the run. With the result of an `earlier` visit,
        this one adds its rounds to it and does not check the answer again. In the context
        `unpinned`, processes that are started may run on every CPU. Data sets are read from
        `data_root`, with `download` fetched to it first; without a folder they are generated.
        """
        self._device, self.plan, self._clock_cost_s = device, plan, clock_cost_s
        self._hand_over, self._reference, self._unpinned = hand_over, reference, unpinned
        self._first_visit, self._begun = earlier is None, False
        self._left_open, self._uses_processes = contextlib.ExitStack(), False
        self.device, self.dtype = device.torch_device, dtype
        self.data_root, self.download = data_root, download
        self.result = Result() if earlier is None else earlier

    def enter(self, context: contextlib.AbstractContextManager[Entered]) -> Entered:
        """Enter a context that lasts until the cell ends; return its value."""
        return self._left_open.enter_context(context)

    def close(self) -> None:
        """Leave all entered contexts, the last one first."""
        self._left_open.close()

    def uses_processes(self) -> None:
        """Declare that the timed call starts processes.

        They may run on every CPU, and their use of the CPU is not a disturbance.
        """
        self._uses_processes = True
        self.enter(self._unpinned())

    def note(self, text: str) -> None:
        """Add `text` to the reason of the row, if the cell was timed and nothing was raised."""
        if self._first_visit:
            self.result.notes.append(text)

    def unchecked(self, *_: object, **__: object) -> Answer:
        """The `check` of a call whose answer another cell checks: it accepts everything."""
        return Answer()

    def tensor(self, *shape: int, dtype: torch.dtype | None = None, seed: int = 0) -> torch.Tensor:
        """Return a tensor of `shape` on the cell's device, in its dtype, with ordinary values.

        Floating-point values have a magnitude in [0.5, 1.5) and a random sign: no zeros and no
        denormals, for which hardware may be slower or faster. Integers use most bits of the
        cell's dtype, and some are negative; with `dtype`, which replaces the cell's, they are in
        [1, 100), as indices are. Bools are random. The values are the same in every run. With
        its own `seed`, each operand of a call differs, so that it shows if they are confused.
        """
        wide, dtype = dtype is None, dtype or self.dtype
        block = _block(dtype.is_floating_point, seed)
        if dtype == torch.bool:
            block = block % 2 == 0
        elif wide and not dtype.is_floating_point:
            # Most sums of a row stay below 2**63.
            factor = min(torch.iinfo(dtype).max // 127, 2**40) | 1
            block = torch.where(block % 8 == 0, -block, block) * factor
        # Convert before repeating and moving: a device may lack the wider dtype.
        block = block.to(dtype)
        count = torch.Size(shape).numel()
        flat = torch.empty(count, dtype=dtype)
        whole = count - count % BLOCK
        flat[:whole].view(-1, BLOCK).copy_(block)
        flat[whole:] = block[: count - whole]
        return flat.reshape(shape).to(self.device)

    def nbytes(self, count: int) -> int:
        """Return the bytes of `count` elements of the cell's dtype."""
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

        `items` in `unit`; the `bytes` that an ideal implementation must read and write, and the
        floating-point operations (`flop`) that it must do.
        """
        self.result.items, self.result.item_unit = items, unit if items is not None else None
        self.result.bytes, self.result.flop = bytes, flop

    def __call__(
        self,
        operation: Callable[..., Any],
        *args: Any,
        expect: Callable[..., Any] | None = None,
        terms: int = 1,
        check: Callable[..., Answer] | None = None,
        proof: Callable[..., None] | None = None,
        against: Callable[..., Any] | None = None,
        norm: float = math.inf,
        trial: Callable[..., Any] | None = None,
        prepare: Callable[..., object] | None = None,
        changes: bool = False,
        **kwargs: Any,
    ) -> None:
        """Check ``operation(*args, **kwargs)``, time it, then check that it still does the same.

        `expect`: returns the reference from the same arguments, see `bench.measure.references`; the
        operation must depend on nothing else.
        Without it, `operation` (or `against`) on the CPU in float64 is the reference, and `terms`
        and `norm` set the tolerance, see `answer.compare`.
        `check`: replaces the comparison with a reference, as ``check(result, *args, **kwargs)``.
        `proof`: one more check of the result; it raises WrongAnswer if the result fails. With
        `expect`, the default is `proofs.fresh`; only `proofs.wrote` may change an argument.
        `changes`: modules and optimizers among the arguments change, as in a training step.
        `trial`: makes the calls of a check, as ``trial(operation, *args, **kwargs)``, and returns
        what is checked, for example the state after three steps.
        `prepare`: is called with the same arguments before each call, and not timed.
        Raises WrongAnswer after timing if the answer is wrong, and what the operation raises.
        """
        self._begin()
        plain = against is None and check is None and proof is None and expect is None
        if isinstance(operation, torch.nn.Module) and plain:
            # The reference needs a copy of its parameters in float64, as of every argument.
            operation, args = type(operation).__call__, (operation, *args)
        clock = self._device.clock
        if prepare:
            loop = rounds.prepared(operation, prepare, args, kwargs, clock, self._clock_cost_s)
        else:
            loop = rounds.compile_loop(operation, args, kwargs, clock)
        if not self._first_visit:
            self._visit(loop)
            return
        of = against or operation
        asked = Check(self.dtype, expect, terms, check, proof, of, norm, trial, prepare, changes)
        fault, again = first_call(asked, operation, args, kwargs, self._device, self.result)
        call = functools.partial(operation, *args, **kwargs)
        # With one call to time, a slow call is not repeated: the last one is timed and checked.
        slow = not fault and (self.result.first_call_s or 0) >= SLOW_S
        shared = slow and self.plan is not None and self.plan.once
        if self.plan is not None and not shared:
            before = operands.health(operation, args, kwargs)
            self._visit(loop)
            if not self.plan.once:
                self._time_parts(call, launches=not prepare)
            after = operands.health(operation, args, kwargs)
            fault = fault or operands.fault(before, after)
            self.result.denormal = operands.became_denormal(before, after)
        if not fault:
            fault, seconds = again(slow)
            if shared:
                self.result.visits.append(Visit((seconds,), 1, single=True))
        self._give(call)
        if fault:
            raise WrongAnswer(fault)

    def loop(self, loop: rounds.Loop, check: Callable[[], Answer]) -> None:
        """Check and time a loop that runs, and times itself, in other processes.

        ``loop(n)`` runs `n` iterations and returns their seconds; `check` compares the answer with
        the reference. Raises WrongAnswer after timing.
        """
        self._begin()
        if not self._uses_processes:
            self.uses_processes()
        if not self._first_visit:
            self._visit(loop)
            return
        self.result.first_call_s = loop(1)
        self.result.answer = check()
        if self.plan is not None:
            self._visit(loop)
            if not self.result.answer.fault and (later := check()).fault:
                self.result.answer = replace(later, fault=f"after the rounds: {later.fault}")
        self._give(functools.partial(loop, 1))
        if self.result.answer.fault:
            raise WrongAnswer(self.result.answer.fault)

    def _begin(self) -> None:
        """Raise RuntimeError if the cell has timed another call."""
        if self._begun:
            raise RuntimeError("cell(...) is called twice: write a benchmark for each call")
        self._begun = True

    def _give(self, call: Callable[[], object]) -> None:
        """Hand over the rounds, and the call that was timed."""
        if self._hand_over:
            visits = self.result.visits
            self._hand_over(visits[-1] if visits else None, call)

    def _visit(self, loop: rounds.Loop) -> None:
        """Time the rounds of this visit, and observe what disturbs them."""
        assert self.plan
        if self.plan.once:
            self.result.visits.append(rounds.once(loop))
            return
        if self._uses_processes:
            monitor = disturbance.DisturbanceMonitor(own_threads=False)
        else:
            host = self._device.is_host
            reference = self._reference or kernels.ReferenceKernels()
            reference = reference.of_device("" if host else self._device.name)
            if host and (self.result.bytes or 0) < STREAM_BYTES:
                reference = reference.without_long()
            monitor = disturbance.DisturbanceMonitor(reference)
        visits = self.result.visits
        earlier = visits[-1] if visits else None
        with state.tracers_paused():
            visits.append(rounds.measure(loop, self.plan, self._clock_cost_s, monitor, earlier))

    def _time_parts(self, call: functools.partial[Any], launches: bool) -> None:
        """Time the `launches` and the rest of asynchronous work; measure the memory of a call."""
        call_s = statistics.median(self.result.visits[-1].rounds_s)
        if launches and not self._device.is_host:
            # This loop does not wait for the device.
            loop = rounds.compile_loop(call.func, call.args, call.keywords, self._device.now)
            self.result.dispatch_s = rounds.dispatch(loop, self._device.synchronize, call_s)
            self.result.device_s = rounds.device_time(loop, self._device, call_s)
        if self._device.peak_bytes:
            self.result.peak_bytes = self._device.peak_bytes(call)
