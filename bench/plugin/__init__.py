"""The pytest plugin of the suite (``-p bench.plugin``): options, cells, rows, progress."""

pytest_plugins = ("bench.plugin.hooks", "bench.plugin.cells")
