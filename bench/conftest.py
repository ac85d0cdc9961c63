"""Loads the suite's pytest plugin, so that ``pytest bench`` needs no option in a checkout."""

import pytest


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load `bench.plugin`, unless ``-p bench.plugin`` has done so."""
    pluginmanager.import_plugin("bench.plugin")
