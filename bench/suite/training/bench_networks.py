"""Attention, normalisation, dropout and recurrent layers."""

import pytest
import torch
from torch import nn

from bench.measure.layers import attended, batch_norm, contracted, layer_norm, recurrent
from bench.measure.proofs import fresh
from bench.measure.random_numbers import dropped, with_state
from bench.suite.axes import FLOAT32, FLOATING, dtypes, values
from bench.suite.layouts import FORMATS, LAYOUTS, laid_out

GROUPS = {
    "convolutions and attention": ("attention", "attention_layout", "einsum"),
    "layers and losses": ("layer_norm", "batch_norm", "dropout", "lstm", "gru"),
}
pytestmark = dtypes(*FLOATING, default=FLOAT32)

HEADS, DEPTH = 4, 64
#: The sequence of the recurrent layers, and their width.
STEPS, HIDDEN = 32, 128


@pytest.mark.parametrize("causal", ["no", "yes"])
@pytest.mark.parametrize("n", values((64, 512), full=(2048, 8192)))
def bench_attention(cell, n, causal):
    q, k, v = (cell.tensor(1, HEADS, n, DEPTH, seed=seed) for seed in range(3))
    pairs = n * (n + 1) // 2 if causal == "yes" else n * n
    cell.work(items=n, unit="token", bytes=4 * q.nbytes, flop=4 * HEADS * DEPTH * pairs)
    attention = nn.functional.scaled_dot_product_attention
    cell(attention, q, k, v, is_causal=causal == "yes", expect=attended)


@dtypes(*FLOATING, default=("float32", "float16"))
@pytest.mark.parametrize("layout", ["contiguous", "permuted"])
def bench_attention_layout(cell, layout):
    """Causal attention, with the heads permuted in front of the tokens, as in models."""
    shape = (1, 256, HEADS, DEPTH) if layout == "permuted" else (1, HEADS, 256, DEPTH)
    qkv = [cell.tensor(*shape, seed=seed) for seed in range(3)]
    qkv = [one.transpose(1, 2) for one in qkv] if layout == "permuted" else qkv
    flop = 4 * HEADS * DEPTH * (256 * 257 // 2)
    cell.work(items=256, unit="token", bytes=4 * qkv[0].nbytes, flop=flop)
    attention = nn.functional.scaled_dot_product_attention
    cell(attention, *qkv, is_causal=True, expect=attended)


@pytest.mark.parametrize("n", values((256,), full=(64, 1024)))
def bench_einsum(cell, n):
    q, k = (cell.tensor(1, HEADS, n, DEPTH, seed=seed) for seed in range(2))
    scores = HEADS * n * n
    cell.work(items=scores, bytes=2 * q.nbytes + cell.nbytes(scores), flop=2 * DEPTH * scores)
    cell(torch.einsum, "bhqd,bhkd->bhqk", q, k, expect=contracted)


def varied(cell, x, *shape):
    """Give each row or channel its own mean and variance, which is so small that epsilon counts."""
    return x.add_(cell.tensor(*shape, seed=3)).mul_(cell.tensor(*shape, seed=4) / 32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", values((256,), full=(64, 2048)))
def bench_layer_norm(cell, n, layout):
    x = varied(cell, laid_out(cell, layout, n, 768), n, 1)
    weight, bias = cell.tensor(768, seed=1), cell.tensor(768, seed=2)
    cell.work(items=n, unit="token", bytes=2 * cell.nbytes(n * 768 + 768))
    cell(nn.functional.layer_norm, x, (768,), weight, bias, expect=layer_norm)


@pytest.mark.parametrize("layout", list(FORMATS))
@pytest.mark.parametrize("batch", values((4,), full=(32,)))
def bench_batch_norm(cell, batch, layout):
    """With the statistics of the batch, as in training."""
    x = varied(cell, cell.tensor(batch, 64, 28, 28), 64, 1, 1)
    x = x.contiguous(memory_format=FORMATS[layout])
    weight, bias = cell.tensor(64, seed=1), cell.tensor(64, seed=2)
    cell.work(items=batch, unit="image", bytes=2 * x.nbytes + 2 * weight.nbytes)
    cell(nn.functional.batch_norm, x, None, None, weight, bias, True, expect=batch_norm)


@pytest.mark.parametrize("n", values((2**18,), full=(2**12, 2**22)))
def bench_dropout(cell, n):
    cell.work(items=n, bytes=2 * cell.nbytes(n))
    cell(nn.functional.dropout, cell.tensor(n), 0.5, trial=with_state, check=dropped(), proof=fresh)


def over_time(cell, kind, gates, batch):
    """Time the forward pass of a recurrent layer over a sequence."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2147)
        layer = kind(HIDDEN, HIDDEN).to(cell.device, cell.dtype)
    flop = STEPS * batch * gates * 4 * HIDDEN * HIDDEN
    cell.work(items=STEPS * batch, unit="token", flop=flop)
    cell(nn.Module.__call__, layer, 0.5 * cell.tensor(STEPS, batch, HIDDEN), expect=recurrent)


@pytest.mark.parametrize("batch", values((16,), full=(1, 128)))
def bench_lstm(cell, batch):
    over_time(cell, nn.LSTM, 4, batch)


@pytest.mark.parametrize("batch", values((16,), full=(1, 128)))
def bench_gru(cell, batch):
    over_time(cell, nn.GRU, 3, batch)
