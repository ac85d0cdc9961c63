"""Two sides on one machine, in interleaved fresh processes."""
