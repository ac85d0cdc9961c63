"""The answer check: what is right, what is wrong, and what a copy must keep."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from bench.measure import answer, arguments, arrays, dtypes, proofs, references, rounds
from bench.measure import cell as cells
from bench.measure.answer import WrongAnswer
from bench.measure.cell import Cell
from bench.measure.devices import find
from bench.measure.references import Reference, added, product, same, softmax


def cell_of(dtype=torch.float32):
    return Cell(find("cpu"), dtype, plan=None)


@pytest.mark.parametrize("name", dtypes.NAMES)
def test_every_dtype_has_ordinary_data(name):
    data = cell_of(dtypes.find(name)).tensor(3, 50_000).to(torch.float64)
    assert data.isfinite().all()
    assert data.std() > 0
    if name != "bool":
        assert data.abs().min() >= 0.5


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("n", [8, 512])
def test_a_right_product_is_within_tolerance(name, n):
    cell = cell_of(dtypes.find(name))
    cell(torch.matmul, cell.tensor(n, n), cell.tensor(n, n), terms=n)
    assert 0 <= cell.result.answer.rel_error <= cell.result.answer.tolerance


def test_tolerance_follows_from_the_dtype():
    values = [dtypes.tolerance(dtypes.find(n)) for n in ("float64", "float32", "float16")]
    assert values == sorted(values)
    assert dtypes.tolerance(torch.bfloat16) > dtypes.tolerance(torch.float16)
    assert dtypes.tolerance(torch.int32) == dtypes.tolerance(torch.bool) == 0


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int32", "bool"])
def test_one_wrong_element_is_found(name):
    # Integers and bool are computed alike on the reference: let the first call alone be wrong.
    calls = []

    def operation(x):
        calls.append(x)
        out = x.clone()
        if len(calls) == 1:
            out[7] = 1 - out[7].to(torch.int32)
        return out

    cell = cell_of(dtypes.find(name))
    with pytest.raises(WrongAnswer, match="off by"):
        cell(operation, cell.tensor(100))
    assert len(calls) == 2  # the checked one and the reference
    assert cell.result.answer.rel_error > cell.result.answer.tolerance


@pytest.mark.parametrize(
    ("actual", "expected", "wrong"),
    [
        ([math.inf], [1.0], True),
        ([math.nan], [1.0], True),
        ([1.0], [math.nan], True),
        ([math.nan, 1.0], [math.nan, 1.0], False),
        ([math.inf], [math.inf], False),
        ([-math.inf], [math.inf], True),
        ([0.0], [0.0], False),
        ([1e-3], [0.0], True),
        ([1.0, 2.0], [1.0], True),
    ],
)
def test_awkward_numbers(actual, expected, wrong):
    found = answer.compare(torch.tensor(actual), torch.tensor(expected), torch.float32)
    assert bool(found.fault) is wrong


def test_a_result_of_another_shape_or_count_is_wrong():
    one = torch.ones(2, 3)
    assert "shape" in answer.compare(one, one.T, torch.float32).fault
    assert "results" in answer.compare([one], [one, one], torch.float32).fault


def test_complex_numbers_are_compared_with_complex128_in_both_parts():
    """They were compared with the same operation in the same dtype, without the imaginary part."""
    x = torch.complex(cell_of().tensor(100), cell_of().tensor(100, seed=1))
    wide = arguments.on_reference(x)
    assert wide.dtype == torch.complex128
    expected = arguments.reference(torch.exp, (x,), {})
    assert answer.compare(torch.exp(x), expected, torch.complex64).fault == ""
    assert answer.compare(torch.exp(x), expected, torch.complex64).rel_error > 0
    wrong = torch.exp(x)
    wrong[7] = wrong[7].conj()
    assert "off by" in answer.compare(wrong, expected, torch.complex64).fault
    assert answer.compare(torch.exp(x).conj(), expected, torch.complex64).fault


def test_the_reference_is_float64_on_the_cpu_and_leaves_the_arguments_alone():
    x = torch.ones(3, dtype=torch.float16)
    (y, dtype, n), _ = arguments.on_reference(((x, torch.float16, 3), {}))
    assert (y.dtype, dtype, n) == (torch.float64, torch.float64, 3)
    wide = torch.ones(3, dtype=torch.float64)
    arguments.on_reference(wide).zero_()
    assert wide.sum() == 3


def test_copies_keep_strides_and_ties():
    x = torch.arange(6.0).reshape(2, 3).t()
    assert arguments.copies(x).stride() == x.stride()
    assert arguments.on_reference(x).stride() == x.stride()
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model2, optimizer2 = arguments.on_reference((model, optimizer))
    assert optimizer2.param_groups[0]["params"][0] is next(model2.parameters())
    assert next(model2.parameters()).dtype == torch.float64
    assert next(model.parameters()).dtype == torch.float32


class Batch(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor


def test_a_named_tuple_stays_one():
    wide = arguments.on_reference(Batch(torch.ones(2), torch.arange(2)))
    assert isinstance(wide, Batch)
    assert (wide.images.dtype, wide.labels.dtype) == (torch.float64, torch.int64)


def test_an_in_place_operation_is_compared_with_the_values_before_it():
    cell = cell_of()
    x = cell.tensor(1000)
    before = x.clone()
    cell(torch.Tensor.add_, x, cell.tensor(1000))
    assert torch.equal(x, before)  # checked on a copy; nothing was timed


def test_memory_proofs_distinguish_views_from_copies():
    array = np.array([0.7, 0.0])
    proofs.aliases(torch.from_numpy(array), array)
    proofs.fresh(torch.tensor(array), array)
    with pytest.raises(WrongAnswer, match="shares memory"):
        proofs.fresh(torch.from_numpy(array), array)
    with pytest.raises(WrongAnswer, match="does not share"):
        proofs.aliases(torch.tensor(array), array)
    with pytest.raises(WrongAnswer, match="did not return"):
        proofs.wrote(torch.tensor(array), torch.from_numpy(array))


def caught(operation, *args, dtype=torch.float32, **checked):
    """Return whether a cell notices that the operation is wrong."""
    try:
        cell_of(dtype)(operation, *args, **checked)
    except WrongAnswer:
        return True
    return False


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float64", "int64", "uint8"])
def test_a_product_is_right_and_each_of_its_faults_is_seen(name):
    """Faults of both sides: the reference does not call the operation."""
    dtype = dtypes.find(name)
    x, y = (cell_of(dtype).tensor(64, 64, seed=seed) for seed in (0, 1))
    faults = {
        "right": torch.matmul,
        "diagonal": lambda x, y: torch.diag_embed(torch.diagonal(x @ y)),
        "transposed": lambda x, y: (x @ y).t().contiguous(),
        "swapped": lambda x, y: y @ x,
        "all 10 %": lambda x, y: (x @ y) + ((x @ y) * 0.1).to(x.dtype),
        "dtype": lambda x, y: (x @ y).to(torch.int16),
        "strides": lambda x, y: (y.t() @ x.t()).t(),
        "alias": lambda x, y: x.copy_(x @ y),
        "device": lambda x, y: (x @ y).to("meta"),
    }
    seen = {
        fault: caught(operation, x, y, dtype=dtype, expect=product)
        for fault, operation in faults.items()
    }
    assert seen == {fault: fault != "right" for fault in faults}


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_a_scale_that_is_one_per_cent_off_is_seen(name):
    dtype = dtypes.find(name)
    x = cell_of(dtype).tensor(256, 256)
    assert not caught(lambda x: torch.softmax(x, 1), x, dtype=dtype, expect=softmax)
    assert caught(lambda x: torch.softmax(x, 1) * 1.01, x, dtype=dtype, expect=softmax)
    assert caught(lambda x: torch.softmax(x, 0), x, dtype=dtype, expect=softmax)


def test_a_copy_that_is_none_and_a_sum_that_changes_its_input_are_seen():
    x, y = (cell_of().tensor(16, seed=seed) for seed in (0, 1))
    assert not caught(torch.clone, x, expect=same)
    assert caught(lambda x: x, x, expect=same)
    assert not caught(torch.Tensor.add_, x, y, expect=added, proof=proofs.wrote)
    assert caught(torch.Tensor.add_, x, y, expect=added)
    assert caught(torch.add, x, y, expect=added, proof=proofs.wrote)


def test_calls_that_become_wrong_later_are_seen():
    for when in (2, 3):
        calls = []

        def later(x, calls=calls, when=when):
            calls.append(1)
            return x.clone() if len(calls) < when else torch.zeros_like(x)

        cell = Cell(find("cpu"), torch.float32, rounds.Plan(1, 0, 0))
        with pytest.raises(WrongAnswer, match="after the rounds"):
            cell(later, cell.tensor(8), expect=same)


def sums(x, y, every, dtype):
    """Return the product whose partial sums in `dtype` are rounded after `every` terms."""
    total = torch.zeros(x.shape[0], y.shape[1], dtype=dtype)
    for start in range(0, x.shape[1], every):
        part = slice(start, start + every)
        total = (total.double() + x[:, part].double() @ y[part].double()).to(dtype)
    return total.to(x.dtype)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("every", [8, 32, 128])
def test_partial_sums_in_float32_are_right_in_any_order(name, every):
    dtype = dtypes.find(name)
    for seed in range(10):
        x, y = (cell_of(dtype).tensor(64, 64, seed=2 * seed + k) for k in (0, 1))
        found = answer.judge(sums(x, y, every, torch.float32), product(x, y), torch.device("cpu"))
        assert found.fault == ""
        assert found.rel_error <= found.tolerance


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_partial_sums_in_16_bits_are_wrong_or_declared(monkeypatch, name):
    dtype = dtypes.find(name)
    x, y = (cell_of(dtype).tensor(128, 128, seed=seed) for seed in (0, 1))
    coarse = sums(x, y, 16, dtype)
    assert answer.judge(coarse, product(x, y), torch.device("cpu")).fault
    monkeypatch.setattr(references, "sixteen_bit", lambda dtype, device: True)
    expected = product(x, y)
    assert answer.judge(coarse, expected, torch.device("cpu")).fault == ""
    made = cell_of(dtype)
    made(torch.matmul, x, y, expect=product)
    assert made.result.notes == ["16-bit partial sums are allowed here"]


def test_large_results_are_judged_in_every_block():
    count = 2 * answer.BLOCK + 3
    x, y = (cell_of().tensor(count, seed=seed) for seed in (0, 1))
    for place in (0, answer.BLOCK, count - 1):
        wrong = x + y
        wrong[place] = torch.nextafter(wrong[place], torch.tensor(9.0))
        assert answer.judge(x + y, added(x, y), torch.device("cpu")).fault == ""
        assert answer.judge(wrong, added(x, y), torch.device("cpu")).fault
        copied = x.clone()
        copied[place] = -copied[place]
        assert answer.judge(copied, same(x), torch.device("cpu")).fault
        assert not proofs.same_bits(copied, x)


def test_an_infinite_reference_needs_an_infinite_answer():
    want = Reference(np.array([np.inf, 1.0]), torch.float32, arrays.ulps(1, torch.float32))
    assert answer.judge(torch.tensor([np.inf, 1.0]), want, torch.device("cpu")).fault == ""
    assert answer.judge(torch.tensor([1e30, 1.0]), want, torch.device("cpu")).fault


def test_a_bound_that_is_no_number_allows_nothing():
    want = Reference(np.ones(2), torch.float32, np.full(2, np.nan))
    for values, right in (([1.0, 1.0], True), ([1.0, 2.0], False), ([1.0, math.nan], False)):
        found = answer.judge(torch.tensor(values), want, torch.device("cpu"))
        assert (found.fault == "") is right


def test_a_slow_call_of_a_plan_of_one_is_timed_and_checked_at_once(monkeypatch):
    """Each call of a slow step takes seconds: there are two, not three."""
    monkeypatch.setattr(cells, "SLOW_S", 0.0)
    for fails in (False, True):
        calls = []

        def slow(x, calls=calls, fails=fails):
            calls.append(1)
            return torch.zeros_like(x) if fails and len(calls) > 1 else x.clone()

        made = Cell(find("cpu"), torch.float32, rounds.Plan(1, 0, 0))
        if fails:
            with pytest.raises(WrongAnswer, match="after the rounds"):
                made(slow, made.tensor(8), expect=same)
        else:
            made(slow, made.tensor(8), expect=same)
        assert len(calls) == 2
        (visit,) = made.result.visits
        assert visit.rounds_s[0] > 0
        assert visit.single  # a cold call has no interval and is no time


def test_only_what_rounding_can_do_is_right():
    exact = np.array([1.0, 2.0])
    want = Reference(exact, torch.float32, bound=1e-3)
    found = answer.judge(torch.tensor([1.0005, 2.0]), want, torch.device("cpu"))
    assert (found.rel_error, found.tolerance) == pytest.approx((2.5e-4, 5e-4), rel=1e-3)
    assert answer.judge(torch.tensor([1.002, 2.0]), want, torch.device("cpu")).fault


def test_a_module_with_a_reference_of_its_own_is_no_argument_of_that():
    """A pipeline of torchvision is a module; its reference takes what the pipeline takes."""
    made = cell_of()
    made(torch.nn.ReLU(), made.tensor(4), against=torch.relu)
    assert made.result.answer.rel_error == 0.0


def test_a_call_that_takes_the_next_item_is_repeated_from_the_first():
    class Items:
        """Numbers from 0 on."""

        def __init__(self):
            self.next = -1.0

        def __next__(self):
            self.next += 1
            return torch.tensor([self.next])

        def __deepcopy__(self, _):
            return Items()

    made = Cell(find("cpu"), torch.float32, rounds.Plan(3, 0.001, 0.0001))
    made(next, Items(), expect=lambda items: Reference(np.zeros(1), torch.float32))
    assert made.result.answer.rel_error == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_mean_loss_of_any_batch_is_right_and_ten_percent_are_wrong(dtype):
    """PyTorch adds up losses in their dtype, so that 64 of bfloat16 are off by 2 ulp."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        for count in (64, 1_024):
            logits = (0.05 * torch.randn(count, 10, generator=generator)).to(dtype)
            labels = torch.randint(10, (count,), generator=generator)
            got = torch.nn.functional.cross_entropy(logits, labels)
            want = references.cross_entropy(logits, labels)
            assert answer.judge(got, want, got.device).fault == ""
            assert answer.judge(1.1 * got, want, got.device).fault != ""


def test_a_call_that_writes_nothing_does_not_get_the_memory_of_the_result_before():
    """Only the first call is right; those after it would return what is in their memory."""
    calls = []

    def sometimes(x):
        calls.append(1)
        return x.clone() if len(calls) == 1 else torch.empty_like(x)

    made = Cell(find("cpu"), torch.float32, rounds.Plan(1, 0, 0))
    with pytest.raises(WrongAnswer, match="not repeatable"):
        made(sometimes, made.tensor(2**10), expect=same)


@pytest.mark.parametrize("name", ["int8", "int16", "int32", "int64"])
def test_integers_of_the_cell_use_its_bits_and_others_fit_as_indices(name):
    dtype = dtypes.find(name)
    made = cell_of(dtype)
    assert made.tensor(1000).min() < 0
    assert made.tensor(1000).max() > 2 ** min(torch.iinfo(dtype).bits - 2, 45)
    assert made.tensor(1000, dtype=dtype).min() > 0
    x, y = made.tensor(8, 8), made.tensor(8, 8, seed=1)
    made(torch.matmul, x, y, expect=product)


def test_a_reference_that_knows_its_values_is_not_asked_for_others():
    made = Cell(find("cpu"), torch.float32, None)
    x = made.tensor(16)
    wanted = references.same(x.clone())
    made(torch.clone, x, expect=lambda _: wanted)
    assert made.result.answer.fault == ""
    assert torch.equal(x, made.tensor(16))


def test_a_sparse_answer_is_compared_as_numbers():
    cell, matrix = cell_of(), torch.eye(4).to_sparse()
    cell(torch.mul, matrix, 2.0)
    assert cell.result.answer.rel_error == 0
    assert answer.compare(3 * matrix, 2 * matrix.double(), torch.float32).fault


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("expect", [None, product])
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_argument_is_copied_and_checked_as_another(layout, expect):
    cell = cell_of()
    matrix, y = torch.eye(4).to_sparse(layout=layout), cell.tensor(4, 4)
    cell(torch.matmul, matrix, y, expect=expect)
    assert cell.result.answer.rel_error == 0


@pytest.mark.parametrize("expect", [None, references.converted])
def test_numbers_of_a_float8_are_compared_as_float32(expect):
    cell = cell_of()
    few = cell.tensor(64).to(torch.float8_e4m3fn)
    cell(torch.Tensor.to, few, torch.float32, expect=expect)
    assert cell.result.answer.rel_error == 0
    assert answer.compare(few, -few.float(), torch.float8_e4m3fn).fault


def test_a_second_call_is_refused():
    cell = cell_of()
    cell(torch.neg, cell.tensor(4))
    with pytest.raises(RuntimeError, match="called twice: write a benchmark for each call"):
        cell(torch.abs, cell.tensor(4))
