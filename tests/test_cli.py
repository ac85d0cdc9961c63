"""The command `bench`."""

import subprocess
import sys

import pytest
from typer.main import get_command

from bench import __version__
from bench.cli import main
from bench.records import reader
from tests.helpers.command import run_bench
from tests.helpers.frames import store

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


def test_help_names_every_option_in_full():
    for name, command in get_command(main.app).commands.items():
        shown = run_bench(name, "--help", env={"COLUMNS": "80"}).output
        assert max(map(len, shown.splitlines())) <= 80
        for option in command.params:
            assert all(flag in shown for flag in option.opts if flag.startswith("--")), name


def test_the_same_file_on_both_sides_of_a_gate_is_refused(tmp_path):
    path = store(tmp_path / "a.csv", {})
    done = run_bench("check", path, "--baseline", str(tmp_path))
    assert done.exit_code == 2
    assert "a.csv is on both sides" in done.output


@pytest.mark.parametrize("command", ["run", "list"])
def test_a_wrong_option_is_one_line(tmp_path, python, command):
    done = bench(command, "--device", "tpu", cwd=tmp_path, python=python)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert "'tpu' is no device of this machine; it has: cpu" in done.stdout + done.stderr
