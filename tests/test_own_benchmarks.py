"""Benchmarks of a project outside this repository."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from bench.cli import main
from bench.launch import command
from bench.plugin import entry
from bench.records import reader

DOC = Path(__file__).parent.parent / "docs" / "own-benchmarks.md"
ROOT = Path(__file__).parent.parent
OPTIONS = ("--profile", "smoke", "--device", "cpu", "--dtype", "float32")
NET = """
import torch

def bench_linear(cell):
    net = torch.nn.Linear(16, 4, device=cell.device, dtype=cell.dtype)
    cell(net, cell.tensor(8, 16), terms=16)
"""


def result(folder):
    (path,) = (folder / "results").glob("*/*.csv")
    return reader.read(path).iloc[0]


@pytest.mark.integration
def test_a_file_of_any_name_runs_under_pytest_alone(tmp_path, python):
    (tmp_path / "my_bench.py").write_text(NET)
    # From an installed package, pytest loads the entry by itself.
    installed = importlib.metadata.entry_points(group="pytest11", name="torch_device_bench")
    words = ("my_bench.py", *(() if installed else ("-p", "bench.plugin.entry")), *OPTIONS)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [python, "-m", "pytest", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = result(tmp_path)
    assert (row.family, row.benchmark, row.status) == ("my_bench", "linear", "ok")
    assert row.rel_error <= row.tolerance


def test_the_package_registers_the_plugin_that_finds_benchmarks():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (module,) = project["entry-points"]["pytest11"].values()
    assert module == entry.__name__
    assert hasattr(entry, "pytest_load_initial_conftests")
    known = "import sys; import bench.plugin.entry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", known], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (["my_bench.py"], True),
        (["my_bench.py::bench_linear", "-x"], True),
        (["folder"], True),
        (["test_it.py"], False),
        (["broken.py"], False),  # pytest says what is wrong with it
        (["nowhere.py"], False),
        ([".", "-k", "my_bench"], False),
        (["-k", " or ".join(["my_bench"] * 50)], False),  # too long for the name of a file
    ],
)
def test_the_plugin_is_loaded_only_for_benchmarks(tmp_path, monkeypatch, words, loaded):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_bench.py").write_text(NET)
    quoted = f'def test_bench_it(cell):\n    text = """\n{NET}\n"""\n'
    (tmp_path / "test_it.py").write_text(quoted)
    (tmp_path / "broken.py").write_text("def bench_it(cell:\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "bench_it.py").write_text(NET)
    seen = []
    manager = SimpleNamespace(import_plugin=seen.append)
    entry.pytest_load_initial_conftests(SimpleNamespace(pluginmanager=manager), words)
    assert seen == (["bench.plugin"] if loaded else [])


def test_bench_list_takes_a_folder_instead_of_the_suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    seen = []
    done = SimpleNamespace(stdout="", stderr="", returncode=0)
    monkeypatch.setattr(main.subprocess, "run", lambda words, **_: seen.append(words) or done)
    CliRunner().invoke(main.app, ["list", "folder"])
    assert "folder" in seen[0]
    assert not any("suite" in word for word in seen[0])


@pytest.mark.integration
def test_bench_run_takes_a_folder_and_its_families(tmp_path, python):
    """Also one called `bench`, and where its package gives the family."""
    package = tmp_path / "bench" / "models"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "bench_linear.py").write_text(NET)
    (tmp_path / "bench" / "bench_other.py").write_text(NET)
    words = ("run", "bench", "--family", "models", *OPTIONS)
    command = "import sys; from bench.__main__ import main; sys.argv[0] = 'bench'; main()"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-P", "-c", command, *words],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(tmp_path).family == "models"
    assert "1 row of 1 run in" in done.stdout


def test_the_example_of_the_documentation_works(suite):
    code = re.search(r"```python\n(.*?)```", DOC.read_text(), re.S)[1]
    (suite.pytester.path / "bench_mlp.py").write_text(code)
    assert suite.run("--profile", "smoke", "--family", "mlp").ret == 0
    assert (suite.rows().status == "ok").all()


def test_an_unknown_family_lists_those_of_the_files_too(suite):
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    done = suite.run("--family", "its")
    done.stderr.fnmatch_lines(["ERROR: --family: unknown 'its'; known: *it, *tensors*"])
    assert not suite.files()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["mine.py", "-k", "neg"], ["mine.py"]),
        (["mine.py::bench_neg", "folder"], ["mine.py::bench_neg", "folder"]),
        (["--benchmark-json", "folder", "-x", "folder"], ["folder"]),
        (["-k", "folder", "--family=folder"], []),
        (["-q", "folder"], ["folder"]),
    ],
)
def test_values_of_options_are_no_files_of_the_user(tmp_path, monkeypatch, arguments, found):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert command.user_files(arguments) == found
    assert any("suite.ini" in word for word in command.of(*arguments)) == (not found)


def test_a_git_ref_times_its_own_version_of_the_file(tmp_path, monkeypatch):
    repository, tree = tmp_path / "repository", tmp_path / "tree"
    for folder in (repository / ".git", repository / "speed", tree / "speed"):
        folder.mkdir(parents=True)
    (tree / "speed" / "mine.py").touch()
    monkeypatch.chdir(repository / "speed")
    there = command.Installation(tree=tree)
    assert f"{tree / 'speed' / 'mine.py'}::bench_a" in command.of("mine.py::bench_a", place=there)
    with pytest.raises(command.CannotRun, match=r"new\.py is not in the git ref"):
        command.of("new.py", place=there)
