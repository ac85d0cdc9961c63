"""Timing and checking one cell: devices, clocks, rounds, reference answers, environment."""
