"""A model of the user: its forward pass, its forward and backward pass, each of its operators."""

import torch

from bench.measure import answer, arguments
from bench.suite.model import given

GROUP = "own model"


def pytest_generate_tests(metafunc):
    """Time the model that `--model` names; without one, the family is not selected."""
    model = given.CURRENT[0] if given.CURRENT else None
    name = model.name if model else "none"
    if "operator" in metafunc.fixturenames:
        found = model.operators if model else []
        cells = [(name, one.name, one.shapes, one.calls) for one in found]
        columns = ("model", "operator", "shapes", "uses")
        metafunc.parametrize(columns, cells or [(name, "none", "none", 0)])
    elif "model" in metafunc.fixturenames:
        metafunc.parametrize("model", [name])


def agrees(operation, model, dtype, passes):
    """Return a check of the whole model against float64 on the CPU, in the Euclidean norm.

    The rounding errors of the operators are independent, so their variances add up. Sums of 16-bit
    numbers are accumulated in float32: there, each operator counts as one rounding.
    """
    terms = sum(one.calls * (one.terms if dtype.itemsize > 2 else 1) for one in model.operators)
    expected: list[torch.Tensor] = []

    def numbers(result):
        parts = [one.detach().double().cpu().reshape(-1) for one in arguments.tensors(result)]
        return torch.cat([one for one in parts if one.numel()])

    def check(result, *args):
        if not expected:
            expected.append(numbers(arguments.reference(operation, args, {})))
        return answer.compare(numbers(result), expected[0], dtype, passes * terms, norm=2)

    return check


def forward(module, *inputs):
    with torch.no_grad():
        return module(*inputs)


def bench_forward(cell, model):
    """A forward pass without a graph."""
    known = given.CURRENT[0]
    module, inputs = known.on(cell)
    if known.fault:
        cell.note(known.fault)
    cell(forward, module, *inputs, check=agrees(forward, known, cell.dtype, 1))


def forward_backward(module, *inputs):
    module.zero_grad()
    results = [one for one in arguments.tensors(module(*inputs)) if one.dtype.is_floating_point]
    torch.stack([one.float().square().mean() for one in results]).sum().backward()
    return [one.grad for one in module.parameters() if one.grad is not None]


def bench_forward_backward(cell, model):
    """A forward pass, the mean square of its results as the loss, and the backward pass."""
    known = given.CURRENT[0]
    module, inputs = known.on(cell)
    cell(
        forward_backward,
        module,
        *inputs,
        check=agrees(forward_backward, known, cell.dtype, 3),
    )


def bench_operator(cell, model, operator, shapes, uses):
    """One operator with the arguments that it gets in a forward pass."""
    found = given.CURRENT[0].operators
    one = next(one for one in found if (one.name, one.shapes) == (operator, shapes))
    args, kwargs = given.moved((one.args, one.kwargs), cell)
    cell(one.call, *args, terms=one.terms, **kwargs)
