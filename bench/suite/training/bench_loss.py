"""Cross entropy by kind of target, and the cost of reading the loss."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bench.measure.arrays import double
from bench.measure.references import Reference, cross_entropy
from bench.suite.axes import FLOAT32, FLOATING, dtypes, values

GROUP = "layers and losses"

CLASSES = 10
BATCHES_READ = 16


@pytest.mark.parametrize("target", ["index", "one_hot"])
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_cross_entropy(cell, batch, target):
    logits = cell.tensor(batch, CLASSES).mul_(4).add_(96)
    labels = (torch.arange(batch) % CLASSES).to(cell.device)
    if target == "one_hot":
        labels = nn.functional.one_hot(labels, CLASSES).to(cell.dtype)
    bytes_ = logits.nbytes + labels.nbytes + cell.nbytes(1)
    cell.work(items=batch, unit="sample", bytes=bytes_)
    cell(nn.functional.cross_entropy, logits, labels, expect=cross_entropy)


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("vocabulary", values((32_000,), full=(1_000, 128_000)))
def bench_token_loss(cell, vocabulary):
    """Cross entropy of 64 tokens, as at the end of a language model."""
    logits = cell.tensor(64, vocabulary).mul_(4).add_(96)
    tokens = (torch.arange(64) * 997 % vocabulary).to(cell.device)
    cell.work(items=64, unit="token", bytes=logits.nbytes + tokens.nbytes + cell.nbytes(1))
    cell(nn.functional.cross_entropy, logits, tokens, expect=cross_entropy)


def item_per_batch(losses):
    total = 0.0
    for loss in losses:
        total += (loss * 2).item()
    return total


def item_at_the_end(losses):
    total = torch.zeros((), device=losses[0].device)
    for loss in losses:
        total += loss * 2
    return total.item()


def twice_the_sum(losses):
    """Return the total of doubled losses, whose partial sums are in float32."""
    values = 2 * np.array([float(double(loss)) for loss in losses])
    bound = 4 * math.sqrt(len(values)) * 2.0**-24 * abs(values).sum()
    return Reference(values.sum(), losses[0].dtype, float(bound), kind=float)


READ = {"item_per_batch": item_per_batch, "item_at_the_end": item_at_the_end}


@pytest.mark.parametrize("reading", list(READ))
def bench_read_loss(cell, reading):
    losses = list(cell.tensor(BATCHES_READ).abs().unbind())
    cell.work(items=BATCHES_READ, unit="batch")
    cell(READ[reading], losses, expect=twice_the_sum)
