"""Data that becomes infinite, NaN or denormal is detected outside the timed part."""

import functools

import pytest
import torch

from bench.measure import operands

BAD = torch.tensor([1.0, float("inf")])


class State:
    """An object of a user that keeps its data in an attribute."""

    def __init__(self):
        self.x = BAD


def helper():
    """Work on a global."""
    return BAD.add_(1)


def test_every_tensor_that_a_call_can_reach_is_found():
    bad, state = BAD, State()
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    model.weight.grad = torch.full((2, 2), float("nan"))
    reached = [
        bad,
        [{"x": bad}],
        lambda: bad,
        functools.partial(torch.add, bad, other=bad),
        bad.add_,
        model,
        optimizer,
        lambda: state.x.add_(1),
        helper,
        lambda: helper(),
    ]
    for one in reached:
        assert operands.health(one).not_finite > 0, one


def test_denormals_are_counted_and_integers_are_ignored():
    tiny = torch.full((4,), 1e-40)
    assert operands.health(tiny).denormal == 1
    assert operands.health(torch.zeros(4), torch.ones(3, dtype=torch.int64)) == operands.Health()
    assert operands.health(torch.full((4,), 1e-6, dtype=torch.float16)).denormal == 1


OWN = """
    def grow(x):
        return x.mul_(1e6)

    def shrink(x):
        return x.mul_(1e-3)

    def bench_grows(cell):
        cell(grow, cell.tensor(8), check=cell.unchecked)

    def bench_shrinks(cell):
        cell(shrink, cell.tensor(8), check=cell.unchecked)

    def bench_closure(cell):
        a = cell.tensor(4, 4) * 10
        cell(lambda: a.copy_(a @ a), check=cell.unchecked)

    def bench_settled(cell):
        cell(torch.neg_, cell.tensor(8))
"""


@pytest.mark.integration
@pytest.mark.parametrize("name", ["grows", "closure"])
def test_data_that_becomes_infinite_is_a_wrong_cell(suite, name):
    suite.write(OWN)
    suite.run("--dtype=float32", "-k", name, "--benchmark-max-time=0.01")
    (row,) = suite.rows().itertuples()
    assert row.status == "wrong"
    assert "infinite or NaN" in row.reason


def test_other_cells_are_unaffected(suite):
    suite.write(OWN)
    suite.run("--dtype=float32", "-k", "settled", "--benchmark-max-time=0.01")
    (row,) = suite.rows().itertuples()
    assert row.status in ("ok", "unstable")
    assert "of its data" not in row.reason


def test_denormals_are_no_fault():
    before, after = operands.Health(), operands.Health(denormal=0.5)
    assert operands.became_denormal(before, after) == 0.5
    assert not operands.fault(before, after)
    assert operands.became_denormal(after, after) is None
