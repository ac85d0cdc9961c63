"""How many faults the answer check notices: break the kernel of each benchmark, count what is seen.

``python -m tests.validation.answers [-k WORD] [--dtype NAME ...] [--profile full] [--list]`` prints
caught of tried by benchmark and dtype. A break that changes nothing (the sign of a bool, 1 % of a
small integer) is not tried. With ``--seeds 100`` nothing is broken: it checks each cell with as many
other inputs, on one and two threads, with and without oneDNN, and prints the false alarms.
"""

import argparse
import collections
import contextlib
import functools
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bench.measure import cell, devices, dtypes, rounds
from bench.measure.answer import copies, same_bits, walk
from bench.measure.cell import Cell
from bench.plugin import rows
from bench.suite.training import models

#: Where the broken element is, as a share of the elements of the largest array.
PLACE = 0.37
#: Larger cells are the same kernels again.
MOST_ELEMENTS, MOST_SAMPLES = 2**20, 256


class NotApplied(Exception):
    """The break changes nothing in this cell, so the cell has nothing to notice."""


def _set(flat: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    flat.copy_(change(flat.double() if flat.is_floating_point() else flat).to(flat.dtype))


def _element(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., None]:
    def breaks(leaves: list[torch.Tensor]) -> None:
        largest = max(leaves, key=torch.Tensor.numel)
        place = np.unravel_index(int(PLACE * largest.numel()), largest.shape)
        _set(largest[tuple(map(int, place))], change)

    return breaks


def _all(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., None]:
    def breaks(leaves: list[torch.Tensor]) -> None:
        for leaf in leaves:
            _set(leaf, change)

    return breaks


def _row(leaves: list[torch.Tensor]) -> None:
    largest = max(leaves, key=torch.Tensor.numel)
    if largest.ndim and largest.shape[0] > 1:
        largest[int(PLACE * largest.shape[0])] = 0
    else:
        largest.zero_()


def _reversed(leaves: list[torch.Tensor]) -> None:
    for leaf in leaves:
        leaf.copy_(leaf.flip(0) if leaf.ndim else leaf)


def _nan(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotApplied
    return x * float("nan")


#: Name -> changes of the values in a result: one element of the largest array, or all of them.
VALUES: dict[str, Callable[[list[torch.Tensor]], None]] = {
    "one element 1 %": _element(lambda x: x * 1.01),
    "one element 10 %": _element(lambda x: x * 1.1),
    "zero": _element(torch.zeros_like),
    "sign": _element(lambda x: ~x if x.dtype == torch.bool else -x),
    "NaN": _element(_nan),
    "row": _row,
    "all 1 %": _all(lambda x: x * 1.01),
    "all 10 %": _all(lambda x: x * 1.1),
    "all zero": _all(torch.zeros_like),
    "reversed": _reversed,
}
#: Breaks that are none for these benchmarks: they promise no values, or only a distribution.
NO_FAULT = {
    "empty": (*VALUES, "skipped", "later calls wrong"),
    "rand": ("one element 1 %", "one element 10 %", "zero", "row", "reversed"),
}
NO_FAULT["randn"] = (*NO_FAULT["rand"], "sign")
OTHER = {"float32": torch.float64, "float64": torch.float32, "int64": torch.int32}


def _leaves(result: Any) -> list[Any]:
    found: list[Any] = []

    def add(leaf: Any) -> None:
        if isinstance(leaf, torch.nn.Module):
            found.extend(leaf.parameters())
        elif isinstance(leaf, (torch.Tensor, np.ndarray)):
            found.append(leaf)

    walk(result, add)
    return found


def _numbers(result: Any) -> Any:
    """Return a result of Python numbers as a tensor, and None if it has none."""
    if type(result) in (bool, int, float):
        return torch.tensor(result, dtype={float: torch.float64}.get(type(result)))
    if isinstance(result, list) and result and type(result[0]) in (bool, int, float):
        return torch.tensor(result, dtype={float: torch.float64}.get(type(result[0])))
    return None


def change_values(result: Any, breaks: Callable[[list[torch.Tensor]], None]) -> Any:
    """Return the result with changed values: in its memory, or as new Python numbers."""
    numbers = _numbers(result)
    if numbers is not None:
        before = numbers.clone()
        breaks([numbers.reshape(-1)])
        if torch.equal(before, numbers):
            raise NotApplied
        return numbers.tolist()
    leaves = _leaves(result)
    views = []
    for leaf in leaves:
        view = leaf.detach() if isinstance(leaf, torch.Tensor) else torch.from_numpy(leaf)
        if view.numel():
            views.append(view)
    if not views:
        raise NotApplied
    with torch.inference_mode(any(view.is_inference() for view in views)):
        before = [view.clone() for view in views]
        breaks(views)
        if all(map(torch.equal, before, views)):
            raise NotApplied
    return result


def _map_tensors(result: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    changed = []

    def applied(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        changed.append(leaf)
        return change(leaf)

    mapped = walk(result, applied)
    if not changed:
        raise NotApplied
    return mapped


def wrong_dtype(result: Any) -> Any:
    """Return the same values in another dtype."""
    return _map_tensors(
        result, lambda x: x.to(OTHER.get(str(x.dtype).removeprefix("torch."), torch.float32))
    )


def wrong_device(result: Any) -> Any:
    """Return a result on another device."""
    return _map_tensors(result, lambda x: x.to("meta"))


def _storage(x: Any) -> int:
    return int(x.untyped_storage().data_ptr())


def wrong_alias(result: Any, args: tuple[Any, ...]) -> Any:
    """Return the result in memory that it must not have: its input's, or a copy's."""
    tensors = [leaf for leaf in _leaves(list(args)) if isinstance(leaf, torch.Tensor)]
    if not isinstance(result, torch.Tensor) or not tensors:
        raise NotApplied
    if any(_storage(one) == _storage(result) for one in tensors):
        return result.clone()
    for one in tensors:
        if one.shape == result.shape and one.dtype == result.dtype and not one.requires_grad:
            return one.copy_(result.detach())
    raise NotApplied


def broken(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operation with a fault, in every call or (`later ...`) from the second one on."""
    calls = itertools.count(1)

    @functools.wraps(operation, assigned=("__name__",), updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        if name == "skipped":
            return _skipped(operation, args, kwargs)
        if name == "swapped":
            plain = operation(*copies(args), **kwargs)
            args = _swapped(args)
        result = operation(*args, **kwargs)
        if name == "swapped" and same_bits(plain, result):
            raise NotApplied
        if name in VALUES:
            return change_values(result, VALUES[name])
        if name == "later calls wrong":
            return change_values(result, VALUES["all zero"]) if number > 1 else result
        if name == "wrong dtype":
            return wrong_dtype(result)
        if name == "wrong device":
            return wrong_device(result)
        if name == "wrong alias":
            return wrong_alias(result, args)
        return result

    return faulty


def _swapped(args: tuple[Any, ...]) -> tuple[Any, ...]:
    first = args[0] if args else None
    if isinstance(first, list) and len(first) > 1:
        return first[::-1], *args[1:]
    if len(args) == 2 and all(isinstance(one, torch.Tensor) for one in args):
        return args[1], args[0]
    raise NotApplied


def _skipped(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do nothing; return what an operation in place would return, otherwise no values."""
    result = operation(*copies(args), **kwargs)
    if result is None:
        return None
    leaves, mine = _leaves(result), _leaves(list(args))
    if not leaves:
        raise NotApplied
    if len(leaves) == 1 and mine and isinstance(leaves[0], torch.Tensor):
        first = mine[0]
        same = isinstance(first, torch.Tensor) and first.shape == leaves[0].shape
        if same and first.dtype == leaves[0].dtype and not torch.equal(first, leaves[0]):
            return first
    if isinstance(result, torch.nn.Module):
        return args[-1]
    return change_values(result, VALUES["all zero"])


NAMES = (
    *VALUES,
    *("skipped", "swapped", "wrong dtype", "wrong device", "wrong alias", "later calls wrong"),
)


class BrokenCell(Cell):
    """A cell whose operation is broken; without a name, as it is."""

    broken_by = ""

    def __call__(self, operation: Any, *args: Any, **kwargs: Any) -> None:
        """Break the operation, then check and time it."""
        if not self.broken_by:
            super().__call__(operation, *args, **kwargs)
            return
        if isinstance(operation, torch.nn.Module):
            plain = not kwargs.keys() & {"check", "against", "expect"}
            if plain:
                operation, args = type(operation).__call__, (operation, *args)
        super().__call__(broken(self.broken_by, operation), *args, **kwargs)


class _Collect:
    """A plugin that keeps the cells of a run instead of timing them."""

    items: list[pytest.Function]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.items = list(filter(rows.is_cell, items))
        items.clear()


def cells(*words: str) -> list[pytest.Function]:
    """Return the cells that ``pytest bench`` with these options would time."""
    collect = _Collect()
    command = ["bench", "-p", "no:terminal", "--device=cpu", *words]
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main([*command, "--collect-only"], plugins=[collect])
    return collect.items


def seen(body: Callable[..., None], dtype: str, params: dict[str, Any], name: str) -> str | None:
    """Return what a benchmark finds wrong if its kernel has the fault; None if not applied."""
    plan = rounds.Plan(1, 0, 0)
    made = BrokenCell(devices.find("cpu"), dtypes.find(dtype), plan)
    made.broken_by = name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body(made, **params)
    except (NotApplied, NotImplementedError):
        return None
    except Exception as problem:
        return str(problem) or type(problem).__name__
    finally:
        made.close()
    return ""


def caught(item: pytest.Function, name: str = "") -> bool | None:
    """Return whether a cell is not ok if its kernel has the fault; None if it was not applied."""
    given = rows.given(item)
    params = {key: value for key, value in given.items() if key not in ("device", "dtype")}
    found = seen(item.obj, given["dtype"], params, name)
    if found and not name:
        print(f"{item.name}: {found}", file=sys.stderr)
    return None if found is None else bool(found)


def small(item: pytest.Function) -> bool:
    """Whether a cell is quick enough to be broken a dozen times."""
    given = rows.given(item)
    return int(given.get("n", 0)) <= MOST_ELEMENTS and int(given.get("batch", 0)) <= MOST_SAMPLES


def tried(items: list[pytest.Function], names: tuple[str, ...]) -> Iterator[tuple[Any, str, bool]]:
    """Yield each cell, the name of the break, and whether the cell noticed it."""
    for item in items:
        with contextlib.suppress(NotImplementedError, RuntimeError, TypeError):
            benchmark = rows.benchmark(item).removesuffix("_like")
            for name in names:
                if name in NO_FAULT.get(benchmark, ()):
                    continue
                if (noticed := caught(item, name)) is not None:
                    yield item, name, noticed


@contextlib.contextmanager
def inputs(seed: int) -> Iterator[None]:
    """Give the cells other inputs and another network."""
    block = cell._block

    def other_network() -> models.NeuralNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return models.NeuralNetwork()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell, "_block", lambda floating, own: block(floating, own + 1000 * seed))
        patch.setattr(models, "seeded_network", other_network)
        yield


def false_alarms(items: list[pytest.Function], seeds: int) -> int:
    """Print each right cell that is called wrong; return how many of all checks."""
    found = 0
    for seed in range(seeds):
        torch.set_num_threads(1 + seed % 2)
        with (
            warnings.catch_warnings(action="ignore"),
            torch.backends.mkldnn.flags(enabled=seed // 2 % 2 == 0),
            inputs(seed),
        ):
            found += sum(bool(caught(item)) for item in items)
    return found


def main() -> None:
    """Print caught of tried by benchmark and dtype, and what was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="")
    parser.add_argument("--dtype", action="append", default=[])
    parser.add_argument("--profile", default="default")
    parser.add_argument("--family", action="append", default=[])
    parser.add_argument("--breaks", action="append", choices=NAMES, default=[])
    parser.add_argument("--list", action="store_true", help="print each break that was missed")
    parser.add_argument("--seeds", type=int, default=0, help="break nothing, try other inputs")
    asked = parser.parse_args()
    words = [f"--profile={asked.profile}", *(["-k", asked.k] if asked.k else [])]
    words += [f"--dtype={name}" for name in asked.dtype]
    words += [f"--family={name}" for name in asked.family]
    found = list(filter(small, cells(*words)))
    if asked.seeds:
        alarms = false_alarms(found, asked.seeds)
        print(f"{alarms} false alarms in {asked.seeds} checks of {len(found)} cells")
        return
    good = [item for item in found if caught(item) is False]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    print(f"{len(found)} cells, {len(good)} right without a fault")
    names = tuple(asked.breaks) or NAMES
    table: dict[tuple[str, str], dict[str, list[int]]] = {}
    missed = []
    for item, name, noticed in tried(good, names):
        dtype = rows.given(item)["dtype"]
        for key in (
            (f"{rows.family(item)}/{rows.benchmark(item)}", dtype),
            (rows.family(item), dtype),
        ):
            count = table.setdefault(key, collections.defaultdict(lambda: [0, 0]))
            for column in (name, "all"):
                count[column][0] += noticed
                count[column][1] += 1
        if not noticed:
            missed.append(f"missed: {item.name}: {name}")
    print("| benchmark | dtype | " + " | ".join([*names, "all"]) + " |")
    print("| --- " * (len(names) + 3) + "|")
    for (benchmark, dtype), count in sorted(table.items()):
        cells_ = [f"{count[n][0]}/{count[n][1]}" if count[n][1] else "" for n in (*names, "all")]
        print(f"| {benchmark} | {dtype} | " + " | ".join(cells_) + " |")
    if asked.list:
        print(*missed, sep="\n")


if __name__ == "__main__":
    main()
