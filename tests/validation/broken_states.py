"""Changes of the state in which a call is made, and of what a pass over a data set delivers."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from bench.suite.loading.workers import Pass
from tests.validation.broken_results import NotApplied


def _settings(**changed: Any) -> Callable[[Any], Any]:
    """Return a context in which an optimizer has other settings."""

    @contextlib.contextmanager
    def context(optimizer: torch.optim.Optimizer) -> Iterator[None]:
        (group,) = optimizer.param_groups
        before = {name: group[name] for name in changed if group.get(name)}
        if not before:
            raise NotApplied
        group.update({name: changed[name](value) for name, value in before.items()})
        try:
            yield
        finally:
            group.update(before)

    return context


@contextlib.contextmanager
def _not_zeroed(_: Any) -> Iterator[None]:
    """Leave gradients as they are, so that a backward pass adds to them."""
    calls: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in (nn.Module, torch.optim.Optimizer):
            patch.setattr(kind, "zero_grad", lambda *_, **__: calls.append(1))
        yield
    if not calls:
        raise NotApplied


@contextlib.contextmanager
def _not_disabled(_: Any) -> Iterator[None]:
    """Ignore autocast, no_grad and inference mode."""
    calls: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("autocast", "no_grad", "inference_mode"):
            patch.setattr(torch, name, lambda *_, **__: calls.append(1) or contextlib.nullcontext())
        yield
    if not calls:
        raise NotApplied


@contextlib.contextmanager
def _later_step(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Correct the bias of the moments as in a later step."""
    steps = [state["step"] for state in optimizer.state.values() if "step" in state]
    if "betas" not in optimizer.param_groups[0]:
        raise NotApplied
    for step in steps:  # none before the first step
        step += 10
    yield


#: Name -> the state in which a call is made; it gets the optimizer, or None.
STATES: dict[str, Callable[[Any], Any]] = {
    "rate 10 % off": _settings(lr=lambda rate: rate * 1.1),
    "no momentum": _settings(momentum=lambda _: 0, betas=lambda pair: (0.0, pair[1])),
    "no second moment": _settings(
        alpha=lambda _: 0.0, betas=lambda pair: (pair[0], 0.0), eps=lambda _: 1.0
    ),
    "no weight decay": _settings(weight_decay=lambda _: 0),
    "gradients added up": _not_zeroed,
    "contexts ignored": _not_disabled,
    "later step": _later_step,
}


def broken_state(
    operation: Callable[..., Any], context: Callable[[Any], Any]
) -> Callable[..., Any]:
    @functools.wraps(operation, assigned=("__name__",), updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        found = [one for one in args if isinstance(one, torch.optim.Optimizer)]
        trains = found or any(isinstance(one, nn.Module) for one in args)
        if not trains or (not found and context not in (_not_zeroed, _not_disabled)):
            raise NotApplied
        with context(found[0] if found else None):
            return operation(*args, **kwargs)

    return faulty


class _Source:
    """The source of a pass, whose batches or samples are changed."""

    def __init__(self, source: Any, change: Callable[[list[Any]], list[Any]]) -> None:
        self._source, self._change = source, change

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Any:
        (sample,) = self._change([self._source[index]])
        return sample

    def __iter__(self) -> Iterator[Any]:
        return iter(self._change(list(self._source)))


def _labels_swapped(batches: list[Any]) -> list[Any]:
    images, labels = batches[0]
    if not isinstance(labels, torch.Tensor):
        return [(images, labels + 1)]
    labels[:2] = labels[:2].flip(0)
    return batches


def _first_image(change: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    def changed(batches: list[Any]) -> list[Any]:
        images = batches[0][0]
        image = images if images.ndim == 3 else images[0]
        image.copy_(change(image.clone()))
        return batches

    return changed


def _several(change: Callable[[list[Any]], list[Any]]) -> Callable[[list[Any]], list[Any]]:
    def changed(batches: list[Any]) -> list[Any]:
        if len(batches) < 2:
            raise NotApplied
        return change(batches)

    return changed


#: Name -> a change of what a data set or a DataLoader delivers in a pass.
PASSES: dict[str, Callable[[list[Any]], list[Any]]] = {
    "batches swapped": _several(lambda batches: [batches[1], batches[0], *batches[2:]]),
    "a batch twice": _several(lambda batches: [batches[1], *batches[1:]]),
    "a batch missing": _several(lambda batches: batches[1:]),
    "labels swapped": _labels_swapped,
    "channel of an image flipped": _first_image(
        lambda x: torch.cat([x[:1], x[1:2].flip(-1), x[2:]])
    ),
    "channels swapped": _first_image(lambda x: x.flip(0)),
    "a pixel off by one": _first_image(lambda x: x + (torch.arange(x.numel()) == 0).view(x.shape)),
}


def broken_pass(
    operation: Callable[..., Any], change: Callable[[list[Any]], list[Any]]
) -> Callable[..., Any]:
    passes: list[Pass] = []

    @functools.wraps(operation, assigned=("__name__",), updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Pass):
            passes.append(args[0])
            args[0]._source = _Source(args[0]._source, change)
        elif not passes:  # the timed calls have no pass
            raise NotApplied
        return operation(*args, **kwargs)

    return faulty
