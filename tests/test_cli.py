"""The command `bench`."""

import subprocess
import sys

import pytest

from bench import __version__
from bench.records import reader

pytestmark = pytest.mark.integration


def bench(*words, cwd, python=sys.executable):
    command = [python, "-m", "bench", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_version_and_help(tmp_path):
    assert bench("--version", cwd=tmp_path).stdout == f"torch-device-bench {__version__}\n"
    shown = bench("--help", cwd=tmp_path).stdout
    assert all(command in shown for command in ("run", "list", "info"))


def test_info_says_what_this_machine_is(tmp_path, python):
    shown = bench("info", cwd=tmp_path, python=python).stdout
    for word in ("machine", "torch", "cpu_count", "memory_bytes", "threads", "device cpu"):
        assert word in shown


def test_run_times_the_suite_from_anywhere(tmp_path):
    words = ("--profile", "smoke", "--family", "tensors", "-k", "bench_item", "--device", "cpu")
    done = bench("run", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "results").glob("*/*.csv")
    assert list(reader.read(path).benchmark) == ["item"]


def test_list_names_the_cells_and_times_nothing(tmp_path, python):
    words = ("--family", "tensors", "-k", "bench_item", "--dtype", "int8")
    done = bench("list", *words, cwd=tmp_path, python=python)
    assert "bench_item[cpu-int8]" in done.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ["run", "list"])
def test_a_wrong_option_is_one_line(tmp_path, python, command):
    done = bench(command, "--device", "tpu", cwd=tmp_path, python=python)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in done.stdout + done.stderr
    assert "'tpu' is no device of this machine; it has: cpu" in done.stdout + done.stderr
