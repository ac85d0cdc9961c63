"""Faults of files, processes, plugins and benchmarks: what was measured is kept, and named."""
