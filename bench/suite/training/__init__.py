"""The family ``training``: layers, autograd, loss, optimizers, the step and the epoch."""
