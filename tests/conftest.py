"""Fixtures of the tests: a suite of one file, and a device whose true times are known."""

import gc
import os
import sys
import textwrap

import pytest

# Before torch is imported, also in processes that tests start. On a busy machine, several compute
# threads wait for each other, and each call of a small operation takes a time slice.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from bench.measure import calibration, devices, environment

# Imported here although not named below: pytester removes from sys.modules what a run inside it
# imports. A second copy of a module has other stash keys, and NumPy's extension modules, which
# the verdicts of a run's summary need, refuse to load twice.
from bench.plugin import hooks, progress, rows  # noqa: F401
from bench.records import reader
from bench.report import sentences  # noqa: F401
from bench.verdicts import loading  # noqa: F401
from tests.helpers import quiet, warm
from tests.helpers import simulated as simulated_device
from tests.helpers.simulated import SimulatedDevice

pytest_plugins = ["pytester"]

INI = """
[pytest]
addopts = -p bench.plugin -p no:cacheprovider -p no:hypothesispytest --strict-markers
filterwarnings = ignore:Module already imported so cannot be rewritten
"""


def pytest_configure(config):
    """Let the tests import benchmarks without the plugin, and run them in a worker of xdist."""
    os.environ.pop("PYTEST_XDIST_WORKER", None)  # pytest-benchmark times nothing where it is set
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # a plugin may have imported it first
    for marker in hooks.MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.fixture(autouse=True)
def _quiet_machine(request, monkeypatch, tmp_path):
    """Let no neighbour of this machine decide a test: to the suite, it is always quiet."""
    if not request.node.get_closest_marker("real_machine"):
        quiet.always(monkeypatch.setattr)
    # What this machine once did must not decide a test either.
    monkeypatch.setattr(calibration, "path", lambda: tmp_path / "reference-kernels.json")


@pytest.fixture
def simulated(monkeypatch):
    """A simulated device, known to the suite under its name for the length of a test."""
    simulated_device.DEVICE = SimulatedDevice()
    made = simulated_device.DEVICE.device()
    monkeypatch.setitem(devices.OTHERS, made.name, made)
    return simulated_device.DEVICE


class Suite:
    """A suite of one benchmark file in a folder of its own."""

    def __init__(self, pytester):
        self.pytester = pytester
        pytester.makeini(INI)

    def write(self, body):
        """Write the benchmark file: imports, then `body`."""
        head = "import pytest\nimport torch\nfrom bench.suite.axes import *\n"
        (self.pytester.path / "bench_it.py").write_text(head + textwrap.dedent(body))

    def run(self, *words, only=True):
        """Run it in this process with `words` as options."""
        base = ("--benchmark-only",) if only else ()
        return self.pytester.runpytest_inprocess(*base, "--machine", "here", *words)

    def files(self):
        """The result files, oldest name first."""
        return sorted((self.pytester.path / "results").glob("*/*.csv"))

    def rows(self):
        """The rows of the only result file."""
        (path,) = self.files()
        return reader.read(path)


@pytest.fixture
def suite(pytester):
    """A suite of one file."""
    return Suite(pytester)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Images made in no time, for the data sets of the suite."""
    from bench.suite.loading import data

    monkeypatch.setattr(data, "cache", lambda: tmp_path)
    monkeypatch.setattr(data, "IMAGES", 40)
    images = torch.utils.data.TensorDataset(torch.rand(64, 1, 28, 28), torch.arange(64) % 10)
    monkeypatch.setattr(data, "in_memory", lambda root: images)


@pytest.fixture(scope="session", autouse=True)
def _loaded():
    """Load psutil's modules, which `environment` imports when it is first used.

    The garbage collector need not look through all modules hundreds of times.
    """
    environment.current()
    gc.freeze()


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """A Python that starts without importing torch again; where it cannot, this one."""
    if sys.platform != "linux":  # torch does not bear a fork elsewhere
        yield sys.executable
        return
    with warm.interpreter(tmp_path_factory.mktemp("warm")) as executable:
        yield executable
