"""The family ``tensors``: creation, cat, in-place, numpy bridge, transfer, arithmetic."""
