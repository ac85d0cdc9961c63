"""Benchmarks and plugins that misbehave: each costs its own cell, or is refused in one line."""

import faulthandler
import importlib
import os
import signal
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch

from bench.measure import state
from bench.plugin import rows

NEG = "cell(torch.neg, cell.tensor(4))"


def outcome(suite, body, *words, marks=""):
    suite.write(
        "import os, gc, sys, signal, multiprocessing, threading, time, tracemalloc, locale, numpy\n"
        "try:\n    import resource\nexcept ImportError:\n    pass\n\n"
        f"{marks}\ndef bench_it(cell):\n    {body}\n\n"
        f"def bench_other(cell):\n    {NEG}\n"
    )
    done = suite.run("--profile=smoke", "--dtype=float32", *words)
    return done, suite.rows().set_index("benchmark")


CHANGES = {
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "number of threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "grad mode": "torch.set_grad_enabled(False)",
    "deterministic algorithms": "torch.use_deterministic_algorithms(True)",
    "matmul precision": "torch.set_float32_matmul_precision('medium')",
    "anomaly mode": "torch.autograd.set_detect_anomaly(True)",
    "denormals": "torch.set_flush_denormal(True)",
    "oneDNN": "torch.backends.mkldnn.enabled = False",
    "autocast on cpu": "torch.set_autocast_enabled('cpu', True)",
    "garbage collection": "gc.disable()",
    "profiler": "sys.setprofile(lambda *_: None)",
    "recursion limit": "sys.setrecursionlimit(5000)",
    "working directory": "os.chdir('/')",
    "environment variables": "os.environ['BENCH_TEST'] = '1'",
    "signal handlers": "signal.signal(signal.SIGTERM, lambda *_: None)",
    "tracing of memory": "tracemalloc.start()",
    "kernels of attention": "torch.backends.cuda.enable_flash_sdp(False)",
    "cuDNN": "torch.backends.cudnn.enabled = False",
    # Kept by torch: when the context goes, as with this module, the state before it comes back.
    "inference mode": "vars(torch).setdefault('LEFT', torch.inference_mode()).__enter__()",
    "clocks": "time.perf_counter = lambda: 0.0",
    "standard streams": "sys.stdout = None",
    "folders of modules": "sys.path.insert(0, '/nowhere')",
    "locale": "locale.setlocale(locale.LC_ALL, 'POSIX')",
    "garbage collection debugging": "gc.set_debug(gc.DEBUG_UNCOLLECTABLE)",
    "tracer of threads": "threading.settrace(lambda *_: None)",
    "profiler of threads": "threading.setprofile(lambda *_: None)",
    "errors of NumPy": "numpy.seterr(all='raise')",
    "start method of processes": "multiprocessing.set_start_method('spawn', force=True)",
}
if os.name != "nt":
    CHANGES |= {
        "mask of new files": "os.umask(0o777)",
        "timer": "signal.setitimer(signal.ITIMER_VIRTUAL, 1000)",
        "signal mask": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})",
        "resource limits": "resource.setrlimit(resource.RLIMIT_FSIZE, (2**40, -1))",
        "sharing of tensors": "torch.multiprocessing.set_sharing_strategy('file_system')",
    }


if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
    CHANGES["CPUs"] = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"


@pytest.fixture(autouse=True, scope="module")
def _dynamo():
    """Load what `torch.manual_seed` in a worker imports: pytester would let it be loaded twice."""
    importlib.import_module("torch._dynamo")


def test_what_a_benchmark_changes_is_restored_and_named(suite):
    before, terminates = os.getcwd(), signal.getsignal(signal.SIGTERM)
    body = f"{NEG}; " + "; ".join(CHANGES.values())
    done, found = outcome(suite, body)
    assert done.ret == 0
    for name in CHANGES:
        assert name in found.reason["it"], name
    assert found.reason["other"] == ""
    assert os.getcwd() == before
    assert "BENCH_TEST" not in os.environ
    assert sys.getprofile() is None
    assert signal.getsignal(signal.SIGTERM) == terminates
    assert not tracemalloc.is_tracing()
    assert time.perf_counter() > 0
    assert not torch.is_inference_mode_enabled()


ENDS = {
    "BadText: ": "raise type('BadText', (Exception,), {'__str__': lambda _: 1 / 0})()",
    "Failed: no": "pytest.fail('no')",
    "SystemExit: 0": "sys.exit(0)",
    "KeyError: 5": "raise KeyError(5)",
    "the benchmark has no valid reason: TypeError: ": f"cell.note(5); {NEG}",
}


@pytest.mark.parametrize("reason", ENDS)
def test_whatever_a_benchmark_raises_is_its_own_error(suite, reason):
    """An exception without a text ended the run with a traceback of pytest."""
    done, found = outcome(suite, ENDS[reason])
    assert done.ret == 1
    assert found.status.to_dict() == {"it": "error", "other": "ok"}
    assert found.reason["it"].startswith(reason.rstrip(": ") if "Bad" in reason else reason)


@pytest.mark.skipif(os.name == "nt", reason="forks")
def test_a_forked_child_ends_with_its_benchmark(suite):
    """It timed the other cells too, and removed what --resume needs."""
    _, found = outcome(suite, f"os.fork(); {NEG}; open(f'{{os.getpid()}}.pid', 'w').close()")
    assert found.status.to_dict() == {"it": "ok", "other": "ok"}
    ended = {int(path.stem) for path in suite.pytester.path.glob("*.pid")} - {os.getpid()}
    assert len(ended) == 1
    assert os.waitpid(ended.pop(), 0)[1] == 0


def test_no_benchmark_ends_the_process_in_a_later_cell(suite, monkeypatch):
    undone = []
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: undone.append(1))
    outcome(suite, NEG)
    assert len(undone) >= 2


def test_a_list_that_holds_itself_has_no_name(suite):
    suite.write(f"""
        ITSELF = []
        ITSELF.append(ITSELF)

        @dtypes("float32")
        @pytest.mark.parametrize("v", [ITSELF])
        def bench_it(cell, v):
            {NEG}
    """)
    assert suite.run("--profile=smoke").ret == 0
    assert list(suite.rows().params) == ["v=v0"]


def test_no_name_of_a_value_starts_a_line(suite):
    suite.write(f"""
        @dtypes("float32")
        @pytest.mark.parametrize("v", [pytest.param(object(), id="a\\n::error::evil")])
        def bench_it(cell, v):
            {NEG}
    """)
    done = suite.run("--profile=smoke")
    assert [line for line in done.outlines if "evil" in line]
    assert not [line for line in done.outlines if line.startswith("::")]


def test_a_folder_of_modules_that_is_added_hides_none(monkeypatch):
    """It stays behind the others: a library may need it."""
    monkeypatch.setattr(sys, "path", ["a", "b"])
    before = state.read()
    sys.path[:] = ["new", "b"]
    assert state.restore(before) == ["folders of modules"]
    assert sys.path == ["a", "b", "new"]


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be deleted there")
def test_a_working_directory_that_is_deleted_is_made_again(tmp_path, monkeypatch):
    """pytest ended with a traceback, as if the last cell had killed its process."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = state.read()
    folder.rmdir()
    assert state.restore(before) == ["working directory"]
    assert Path.cwd() == folder


def test_the_workers_of_a_loader_are_no_change_of_the_process(suite):
    loader = "torch.utils.data.DataLoader(range(4), num_workers=2)"
    _, found = outcome(suite, f"{NEG}; list({loader})")
    assert found.reason["it"] == ""


def test_a_skip_has_a_row(suite):
    done, found = outcome(suite, "pytest.skip('needs two GPUs')")
    assert done.ret == 0
    assert found.status["it"] == "unsupported"
    assert "needs two GPUs" in found.reason["it"]


def test_an_expected_failure_is_an_error_and_fails_the_run(suite):
    done, found = outcome(suite, "raise ValueError('x')", marks="@pytest.mark.xfail")
    assert found.status["it"] == "error"
    assert done.ret == 1


def test_the_home_of_the_user_is_not_in_a_reason(suite, monkeypatch):
    """Windows, for one, has no variable HOME."""
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    monkeypatch.delenv("HOME", raising=False)
    _, found = outcome(suite, "raise ValueError('/home/somebody/model.pt')")
    assert found.reason["it"] == "ValueError: ~/model.pt"


def test_a_user_without_a_home_has_reasons_too(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert rows.private("no file /a") == "no file /a"


@pytest.mark.parametrize(
    ("words", "name"),
    [(["-n", "2"], "pytest-xdist"), (["--codspeed"], "pytest-codspeed")],
)
def test_a_plugin_that_takes_the_benchmarks_away_is_refused(suite, words, name):
    option = {
        "pytest-xdist": ("'-n', '--dist', dest='dist', default='no'"),
        "pytest-codspeed": ("'--codspeed', dest='codspeed', action='store_true'"),
    }[name]
    suite.pytester.makepyfile(
        other_plugin=f"def pytest_addoption(parser):\n"
        f"    parser.getgroup('o')._addoption({option})\n"
    )
    suite.write(f"def bench_it(cell):\n    {NEG}\n")
    suite.pytester.syspathinsert()
    done = suite.run("-p", "no:xdist", "-p", "other_plugin", *words)
    assert done.ret == 4
    done.stderr.fnmatch_lines([f"ERROR: {name} *"])
    assert not suite.files()


def test_a_plugin_with_an_option_of_the_suite_is_refused(suite):
    suite.pytester.makepyfile(
        clashing="def pytest_addoption(parser):\n"
        "    parser.getgroup('p').addoption('--device', default='')\n"
    )
    suite.write(f"def bench_it(cell):\n    {NEG}\n")
    about = suite.pytester.mkdir("clashing-1.dist-info")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: clashing\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pytest11]\nclashing = clashing\n")
    suite.pytester.syspathinsert()
    done = suite.run()
    assert done.ret != 0
    text = str(done.stderr) + str(done.stdout)
    assert "the plugin clashing" in text
    assert "--device" in text


def test_a_repeated_cell_is_refused_and_names_the_plugin(suite):
    suite.write(
        '@pytest.mark.parametrize("__pytest_repeat_step_number", [0, 1])\n'
        f"def bench_it(cell, __pytest_repeat_step_number):\n    {NEG}\n"
    )
    done = suite.run("--dtype=float32")
    assert done.ret == 4
    assert "pytest-repeat" in str(done.stderr)
