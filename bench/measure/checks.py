"""Check a call before and after its timed rounds, and keep the results of a cell."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import threadpoolctl
import torch

from bench.measure import answer, arguments, arrays, proofs, refusal
from bench.measure.answer import Answer, WrongAnswer
from bench.measure.devices import Device
from bench.measure.disturbance import Visit


@dataclass
class Result:
    """The results of a cell so far; None for what was not measured."""

    answer: Answer = field(default_factory=Answer)
    first_call_s: float | None = None
    visits: list[Visit] = field(default_factory=list)
    device_s: float | None = None
    dispatch_s: float | None = None
    peak_bytes: int | None = None
    denormal: float | None = None
    fell_back: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items: int | None = None
    item_unit: str | None = None
    bytes: int | None = None
    flop: int | None = None


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


@dataclass(frozen=True)
class Check:
    """How the calls of a cell in `dtype` are checked: the parameters of `Cell.__call__`."""

    dtype: torch.dtype
    expect: Callable[..., Any] | None
    terms: int
    check: Callable[..., Answer] | None
    proof: Callable[..., None] | None
    against: Callable[..., Any]
    norm: float
    trial: Callable[..., Any] | None
    prepare: Callable[..., object] | None
    changes: bool

    def judged(
        self, result: Any, used: tuple[Any, ...], kwargs: dict[str, Any], expected: Any, on: Device
    ) -> Answer:
        """Judge the result of a call, which may have changed the arguments it `used`."""
        if self.check is not None:
            return self.check(result, *used, **kwargs)
        with refusal.checking():
            if self.expect is not None:
                return answer.judge(result, expected, on.torch_device)
            return answer.compare(result, expected, self.dtype, self.terms, self.norm)

    def expected(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the call must return, from arguments that no call has changed."""
        if self.check is not None:
            return None
        with refusal.checking():
            if self.expect is not None:
                return self.expect(*args, **kwargs)
            return arguments.reference(self.against, args, kwargs)


#: A call that is not slow, with so many bytes of arguments, is tried on other values too.
MOST_BYTES = 2**20
NOT_REPEATABLE = "not repeatable: a call after the rounds gives other bits than the first"


def on_other_values(
    asked: Check, call: Callable[..., Any], given: tuple[Any, Any], on: Device, before: Any
) -> str:
    """Return what is wrong with a call on other values in the memory of the arguments `given`.

    The tensors are reversed for this call, and single numbers negated, which shows a result that
    was kept from an earlier one.
    Nothing is called if the result `before` would be right for them too.
    """
    found = [x.data for x in arguments.tensors(given)]
    if not all(map(arrays.computable, found)) or not 0 < sum(x.nbytes for x in found) <= MOST_BYTES:
        return ""
    args, kwargs = given

    def reverse() -> None:
        for x in found:
            single = x.numel() == 1 and x.is_floating_point()
            x.copy_(-x if single else x.flip(tuple(range(x.ndim))))

    reverse()
    try:
        expected = asked.expected(args, kwargs)
        if not asked.judged(before, args, kwargs, expected, on).fault:
            return ""
        fault = asked.judged(call(*args, **kwargs), args, kwargs, expected, on).fault
    finally:
        reverse()
    return f"on other values in the same memory: {fault}" if fault else ""


def first_call(
    asked: Check,
    operation: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    on: Device,
    found: Result,
) -> tuple[str, Callable[[bool], tuple[str, float]]]:
    """Call the operation and check its answer; return what is wrong, or an empty string.

    Fills in the answer, the seconds of the first call, the operators that fell back and the notes
    of what is `found`. Also returns a check that a further call, after the timed ones, gives the
    same; it returns what is wrong and the seconds of that call.
    """
    seconds = [0.0]

    def timed(*args: Any, **kwargs: Any) -> Any:
        if asked.prepare:
            asked.prepare(*args, **kwargs)
        start = on.clock()
        result = operation(*args, **kwargs)
        seconds[0] = on.clock() - start
        if found.first_call_s is None and seconds[0] > 0:
            found.first_call_s = seconds[0]  # 0 if the clock is too coarse for it
        return result

    call = functools.partial(asked.trial, timed) if asked.trial else timed
    with refusal.checking():
        used, used_kwargs = arguments.copies((args, kwargs))
    with refusal.fallbacks(on) as found.fell_back:
        result = call(*used, **used_kwargs)
    # Threads of NumPy's BLAS keep a core busy for some 30 ms after they were used.
    with _libraries().limit(limits=1, user_api="blas"):
        expected = asked.expected(args, kwargs)
        found.answer = asked.judged(result, used, used_kwargs, expected, on)
    if asked.check is None and asked.expect is not None:
        found.notes += dict.fromkeys(one.note for one in arguments.leaves(expected) if one.note)
    fault = found.answer.fault
    # Training changes its module; a plain argument changes only where that is declared.
    proof = asked.proof or (proofs.fresh if asked.expect and not asked.changes else None)
    left = proof is proofs.wrote
    trained = [isinstance(one, (torch.nn.Module, torch.optim.Optimizer)) for one in args]
    plain = [not (asked.changes and one) for one in trained]
    kept = [list(itertools.compress(one, plain))[left:] for one in (used, args)]
    unchanged = proofs.same_bits(*kept)
    declared = asked.expect or asked.proof
    if not fault and declared and not unchanged:
        fault = "the call changed an argument"
    if proof is not None and not fault:
        try:
            proof(result, *used, **used_kwargs)
        except WrongAnswer as failed:
            fault = str(failed)
    advances = any(hasattr(one, "__next__") for one in args)  # each call takes the next item
    keeps = left or advances or any(trained) or not unchanged
    again_args = arguments.copies((args, kwargs)) if keeps else (args, kwargs)

    def again(slow: bool) -> tuple[str, float]:
        """Return what is wrong with a further call on the same arguments, and its seconds."""
        if not keeps and not proofs.same_bits(used, args):
            return "the timed calls changed an argument", 0.0
        proofs.spoil(result)
        later = call(*again_args[0], **again_args[1])
        on.synchronize()
        later_s = seconds[0]
        if asked.check is not None:
            wrong = asked.check(later, *again_args[0], **again_args[1]).fault
            wrong = wrong and f"after the rounds: {wrong}"
        else:
            wrong = "" if proofs.same_bits(result, later) else NOT_REPEATABLE
        if declared and not proofs.overlap(result, used) and proofs.overlap(later, result):
            wrong = wrong or "two calls gave results in the same memory"
        if wrong or slow or keeps or not declared or asked.prepare is not None:
            return wrong, later_s
        with _libraries().limit(limits=1, user_api="blas"):
            return on_other_values(asked, call, (args, kwargs), on, result), later_s

    return fault, again
