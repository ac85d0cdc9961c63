"""The pytest plugin of the suite: options, cells, rows, progress (``-p bench.plugin``)."""

pytest_plugins = ("bench.plugin.hooks",)
