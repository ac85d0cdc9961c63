"""Each layer's reference accepts the right answer in every dtype, and notices small faults."""

import functools

import pytest
import torch

from bench.measure import devices, layers, precision
from bench.measure.answer import WrongAnswer, judge
from bench.measure.cell import Cell
from bench.suite.tensors import bench_arithmetic, bench_indexing, bench_joining, bench_layouts
from bench.suite.training import bench_convolution, bench_loss, bench_networks
from tests.validation.answers import BrokenCell

BODIES = [
    (bench_convolution.bench_conv2d, {"side": 7, "batch": 1, "layout": "channels_last"}),
    (bench_convolution.bench_conv2d_backward, {"side": 7, "batch": 1, "layout": "contiguous"}),
    (bench_networks.bench_attention, {"n": 32, "causal": "yes"}),
    (bench_networks.bench_attention, {"n": 32, "causal": "no"}),
    (bench_networks.bench_attention_layout, {"layout": "permuted"}),
    (bench_networks.bench_einsum, {"n": 16}),
    (bench_networks.bench_layer_norm, {"n": 16, "layout": "transposed"}),
    (bench_networks.bench_batch_norm, {"batch": 1, "layout": "channels_last"}),
    (bench_networks.bench_dropout, {"n": 2**12}),
    (bench_networks.bench_lstm, {"batch": 2}),
    (bench_networks.bench_gru, {"batch": 2}),
    (bench_indexing.bench_embedding, {"n": 64}),
    (bench_indexing.bench_index_select, {"n": 2**12}),
    (bench_indexing.bench_gather, {"n": 2**12}),
    (bench_indexing.bench_scatter_add, {"n": 2**12}),
    (bench_indexing.bench_topk, {"n": 2**12}),
    (bench_indexing.bench_sort, {"n": 2**12}),
    (bench_indexing.bench_cumsum, {"n": 2**12, "dim": 1}),
    (bench_layouts.bench_sum_dim, {"dim": 1, "layout": "transposed"}),
    (bench_layouts.bench_softmax_dim, {"dim": 0, "layout": "sliced"}),
    (bench_layouts.bench_matmul_layout, {"layout": "sliced"}),
    (bench_joining.bench_cat, {"n": 16, "count": 2, "dim": 1, "layout": "sliced"}),
    (bench_loss.bench_token_loss, {"vocabulary": 1_000}),
    (bench_arithmetic.bench_launch_chain, {"launches": 10}),
]
IDS = [body.__name__.removeprefix("bench_") for body, _ in BODIES]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("body", "params"), BODIES, ids=IDS)
def test_the_answer_of_pytorch_is_right(body, params, dtype):
    made = Cell(devices.find("cpu"), dtype, None)
    body(made, **params)
    assert made.result.answer.rel_error <= made.result.answer.tolerance
    assert made.result.items > 0


@pytest.mark.parametrize("fault", ["one element 1 %", "all 1 %", "zero", "wrong dtype"])
@pytest.mark.parametrize(("body", "params"), BODIES, ids=IDS)
def test_a_fault_of_one_percent_is_noticed(body, params, fault):
    if body is bench_networks.bench_dropout and fault in ("one element 1 %", "zero"):
        pytest.skip("half of its elements are zero, and it may be any half")
    made = BrokenCell(devices.find("cpu"), torch.float32, None)
    made.broken_by = fault
    with pytest.raises(WrongAnswer):
        body(made, **params)
    if fault == "all 1 %" and body is not bench_loss.bench_token_loss:  # which is one number
        made = BrokenCell(devices.find("cpu"), torch.bfloat16, None)
        made.broken_by = fault
        with pytest.raises(WrongAnswer):
            body(made, **params)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_attention_that_sees_future_tokens_is_wrong(dtype):
    """MPS of torch 2.10 masks four queries at a time in half precision (pytorch 195910)."""
    made = Cell(devices.find("cpu"), dtype, None)
    q, k, v = (made.tensor(1, 4, 64, 64, seed=seed) for seed in range(3))
    token = torch.arange(64)
    for group, is_right in ((1, True), (4, False)):
        mask = token[None] <= (token // group * group + group - 1)[:, None]
        got = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        want = layers.attended(q, k, v, is_causal=True)
        assert (not judge(got, want, got.device).fault) == is_right


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_large_product_is_checked_by_rows_and_a_checksum(dtype):
    made = Cell(devices.find("cpu"), torch.float32, None)
    x, y = (made.tensor(256, 256, seed=seed).to(dtype) for seed in (0, 1))
    right = (x.float() @ y.float()).to(dtype)
    assert layers.sampled_product(right, x, y).fault == ""
    for change in (
        functools.partial(torch.Tensor.index_fill, dim=0, index=torch.tensor([40, 41]), value=0),
        torch.t,
        torch.zeros_like,
    ):
        assert layers.sampled_product(change(right).contiguous(), x, y).fault


def test_a_large_product_of_integers_has_a_checksum():
    made = Cell(devices.find("cpu"), torch.int16, None)
    x, y = made.tensor(64, 64), made.tensor(64, 64, seed=1)
    right = x @ y
    assert layers.sampled_product(right, x, y).fault == ""
    right[2, 5] += 1
    assert "checksum" in layers.sampled_product(right, x, y).fault


def test_tf32_is_off_but_where_a_benchmark_asks_for_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    precision.full()
    assert not precision.uses_tf32()
    assert not torch.backends.cudnn.allow_tf32
    with precision.tf32(torch.device("cuda")):
        assert precision.uses_tf32()
    assert not precision.uses_tf32()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    for kind, seen in (("cuda", "Tesla T4 has no TF32"), ("mps", "mps has no TF32")):
        with pytest.raises(NotImplementedError, match=seen), precision.tf32(torch.device(kind)):
            pass
