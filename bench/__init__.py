"""How fast, and how right, PyTorch is on this machine, across devices and dtypes."""

__version__ = "0.1.0"
