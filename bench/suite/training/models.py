"""The network, batches and calls that the benchmarks of this family share."""

from itertools import pairwise

import torch
from torch import nn

from bench.suite.axes import values

#: Parameters of the network, and floating-point operations of one sample's forward pass.
SIZES = (28 * 28, 512, 512, 10)
PARAMETERS = sum(a * b + b for a, b in pairwise(SIZES))
FORWARD_FLOP = sum(2 * a * b for a, b in pairwise(SIZES))
#: Those of its backward pass: as many for the gradients of the weights, and as many for those of
#: the inputs of all layers but the first, whose input is the image.
BACKWARD_FLOP = FORWARD_FLOP + sum(2 * a * b for a, b in pairwise(SIZES[1:]))
#: Samples in a batch: powers of four, along which verdicts search for crossovers.
BATCHES = values((1, 16, 64, 256, 1024), full=(4, 4096))
#: So small that thousands of steps on one batch hardly change the network: a loss near zero would
#: give denormal gradients. The rate of a check is so large that its step shows in every dtype.
LEARNING_RATE, CHECKED_RATE = 1e-5, 0.5


class NeuralNetwork(nn.Module):
    """Flatten, then Linear 784-512-512-10 with ReLU between: the classifier of FashionMNIST."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 10),
        )

    def forward(self, x):
        """Return the logits (batch, 10) of images (batch, 1, 28, 28)."""
        return self.linear_relu_stack(self.flatten(x))


def seeded_network() -> NeuralNetwork:
    """Return the network in float32 on the CPU, with the same values in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2147)
        return NeuralNetwork()


def network(cell, dtype=None):
    """Return the network on the cell's device, in its dtype by default."""
    return seeded_network().to(cell.device, dtype or cell.dtype)


def samples(cell, batch, dtype=None):
    """Return images (batch, 1, 28, 28) and their labels (batch,)."""
    labels = (torch.arange(batch) * 7 % 10).to(cell.device)
    return cell.tensor(batch, 1, 28, 28, dtype=dtype), labels


def with_gradients(cell, model, seed=0):
    """Give every parameter a gradient of ordinary numbers; each seed has its own.

    Where they are left over from a call before, it shows if a call adds to them.
    """
    for parameter in model.parameters():
        parameter.grad = cell.tensor(*parameter.shape, dtype=parameter.dtype, seed=seed)
    return model


def forward_work(cell, batch):
    """Declare a forward pass: parameters and images are read once, logits are written once."""
    numbers = PARAMETERS + batch * (SIZES[0] + SIZES[-1])
    cell.work(items=batch, unit="sample", bytes=cell.nbytes(numbers), flop=batch * FORWARD_FLOP)


def training_work(cell, batch, moved, flop=FORWARD_FLOP + BACKWARD_FLOP, dtype=None):
    """Declare work on labelled samples: `flop` per sample, and `moved` numbers per batch.

    These numbers come in addition to the images in `dtype` (default: the cell's) and the labels in
    int64. They do not include what a forward pass stores for a backward pass in the same call,
    because that may stay in the caches.
    """
    numbers = (moved + batch * SIZES[0]) * (dtype or cell.dtype).itemsize
    labels = batch * torch.int64.itemsize
    cell.work(items=batch, unit="sample", bytes=numbers + labels, flop=batch * flop)


def backward_moved(batch):
    """Return the numbers that a backward pass moves.

    It reads the weights of all layers but the first and the stored outputs of all layers, and
    writes the gradients.
    """
    weights = sum(a * b for a, b in pairwise(SIZES[1:]))
    return weights + batch * sum(SIZES[1:]) + PARAMETERS


def loss_of(model, x, y):
    """Return the mean cross entropy of a batch."""
    return nn.functional.cross_entropy(model(x), y)


def gradients(model, x, y):
    """Forward and backward; return the gradients of the parameters that have one."""
    model.zero_grad(set_to_none=True)
    loss_of(model, x, y).backward()
    return [p.grad for p in model.parameters() if p.requires_grad]
