"""The family `tensors`: its rows on this machine, and in-place operations that must not drift."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest
import torch

from bench.measure.cell import Cell
from bench.measure.devices import find
from bench.records import reader

ROOT = Path(__file__).parent.parent


class Recorder(Cell):
    """A cell that keeps the call instead of timing it."""

    def __call__(self, operation, *args, **kwargs):
        self.call = (operation, args)


@pytest.mark.integration
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["add", "mul", "relu", "sigmoid"])
def test_a_million_calls_in_place_neither_overflow_nor_reach_denormals(name, dtype):
    module = importlib.import_module("bench.suite.tensors.bench_inplace")
    cell = Recorder(find("cpu"), dtype, plan=None)
    getattr(module, f"bench_{name}")(cell, 16, "in_place")
    operation, args = cell.call
    tiny = torch.finfo(dtype).smallest_normal
    for _ in range(10):
        before = args[0].clone()
        for _ in range(100_000):
            operation(*args)
        after = args[0]
        assert after.isfinite().all()
        assert ((after == 0) | (after.abs() >= tiny)).all()
        if torch.equal(before, after):
            break  # a fixed point, or a cycle that returns here: it stays for ever


@pytest.mark.integration
def test_the_suite_runs_and_writes_one_row_a_cell(tmp_path, python):
    command = [python, "-m", "pytest", "bench", "--profile=smoke", "--family=tensors"]
    command += ["--benchmark-only", "--device=cpu", "--machine=here", f"--results={tmp_path}"]
    command += ["--dtype=float32", "--dtype=bfloat16", "-k", "not n33554432"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (path,) = tmp_path.glob("here/*.csv")
    rows = reader.read(path)
    collected = re.search(r"(\d+) selected", done.stdout)
    assert len(rows) == int(collected[1]) > 100
    refused = rows[rows.status == "unsupported"]
    assert set(refused.benchmark) == {
        *("to_numpy", "from_numpy", "tensor_from_array", "as_tensor"),
    }
    assert set(refused.dtype) == {"bfloat16"}
    assert (rows[rows.status != "unsupported"].status == "ok").all()
    assert set(rows.family) == {"tensors"}
    declared = rows[rows.status == "ok"]
    assert declared["items"].notna().all()
    assert declared["bytes"].notna().all()
