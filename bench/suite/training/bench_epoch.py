"""One epoch from dataset to trained parameters: mini-batches compared with the full batch."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from bench.measure.answer import Answer
from bench.suite.loading.data import fashion_mnist
from bench.suite.training.models import BACKWARD_FLOP, FORWARD_FLOP, loss_of, network

GROUP = "training"

SAMPLES = 1024


def batch_loss(model, images, labels):
    first = next(model.parameters())
    return loss_of(model, images.to(first.device, first.dtype), labels.to(first.device))


def epoch(model, optimizer, loader):
    total = torch.zeros((), device=next(model.parameters()).device)
    for images, labels in loader:
        optimizer.zero_grad(set_to_none=True)
        loss = batch_loss(model, images, labels)
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total.item() / len(loader)


def the_loss_falls(loader, before):
    def check(mean_loss, model, *_):
        after = batch_loss(model, *next(iter(loader))).item()
        if not (math.isfinite(mean_loss) and after < before):
            return Answer(fault=f"the loss went from {before:.4g} to {after:.4g} in an epoch")
        return Answer()

    return check


@pytest.mark.parametrize("batch", [64, SAMPLES])
def bench_epoch(cell, batch):
    """A batch of all samples is gradient descent; smaller ones are stochastic."""
    model = network(cell)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(Subset(fashion_mnist(cell), range(SAMPLES)), batch)
    cell.work(items=SAMPLES, unit="sample", flop=SAMPLES * (FORWARD_FLOP + BACKWARD_FLOP))
    before = batch_loss(model, *next(iter(loader))).item()
    cell(epoch, model, optimizer, loader, check=the_loss_falls(loader, before))
