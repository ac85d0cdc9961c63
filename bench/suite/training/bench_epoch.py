"""One epoch from dataset to trained parameters: mini-batches compared with the full batch."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from bench.suite.loading.data import fashion_mnist, raw_fashion_mnist
from bench.suite.training import expected
from bench.suite.training.models import (
    BACKWARD_FLOP,
    FORWARD_FLOP,
    PARAMETERS,
    SIZES,
    loss_of,
    network,
    with_gradients,
)

GROUP = "training"

SAMPLES = 1024
RATE = 0.1


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


def batches_of(dataset, batch):
    """Return the batches of the first samples of the data set, read without PyTorch."""
    pixels, labels = raw_fashion_mnist(dataset, SAMPLES)
    images = torch.from_numpy((pixels[:, None] / np.float32(255)).astype(np.float32))
    return list(zip(images.split(batch), torch.from_numpy(labels).split(batch), strict=True))


def epoch_work(cell, batch):
    """Declare the work of an epoch."""
    numbers = PARAMETERS * 3 * (SAMPLES // batch) * cell.dtype.itemsize
    flop = SAMPLES * (FORWARD_FLOP + BACKWARD_FLOP)
    moved = numbers + SAMPLES * (SIZES[0] + 1)
    cell.work(items=SAMPLES, unit="sample", bytes=moved, flop=flop)


@pytest.mark.parametrize("batch", [64, SAMPLES])
def bench_epoch(cell, batch):
    """A batch of all samples is gradient descent; smaller ones are stochastic."""
    epoch_work(cell, batch)
    model, dataset = with_gradients(cell, network(cell)), fashion_mnist(cell)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    # The loader is no argument of the call, because arguments are copied for the check.
    loader = DataLoader(Subset(dataset, range(SAMPLES)), batch)
    steps, batches = expected.Steps(), batches_of(dataset, batch)
    seen = {"expect": lambda model, _: steps.reference(model, batches, RATE), "trial": steps.during}
    cell(lambda net, sgd: epoch(net, sgd, loader), model, optimizer, changes=True, **seen)
