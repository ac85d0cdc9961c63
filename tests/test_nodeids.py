"""The node ids of exports are those that pytest gives, for every cell of the suite."""

import os
import subprocess

import pytest

from bench.exchange import nodeids
from bench.launch import command

pytestmark = pytest.mark.integration

#: Prints node id and key of each item that is collected, in every dtype and size.
PRINTER = """
from bench.plugin import rows

def pytest_collection_modifyitems(items):
    for item in items:
        given = rows.given(item)
        print("CELL", item.nodeid, rows.family(item), rows.benchmark(item), given["device"],
              given["dtype"], rows.params(item), sep="\\t")
"""


@pytest.fixture(scope="module")
def collected(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("printer")
    (folder / "printer.py").write_text(PRINTER)
    words = ("--collect-only", "-q", "-p", "printer", "--profile=full")
    words = command.of(*words, place=command.Installation(python=python))
    done = subprocess.run(
        words,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), str(command.PACKAGE.parent)]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("\t")[1:] for line in done.stdout.splitlines() if line.startswith("CELL")]


def test_every_cell_of_the_suite_has_the_node_id_of_pytest(collected):
    assert len(collected) > 1000
    for node, family, benchmark, device, dtype, text in collected:
        pairs = dict(pair.split("=", 1) for pair in text.split(";") if pair)
        assert nodeids.node_id(family, benchmark, device, dtype, pairs) == node
        assert nodeids.family_of(node) == family


def test_unknown_cells_have_none():
    assert nodeids.node_id("tensors", "nothing", "cpu", "float32", {}) is None
    assert nodeids.node_id("tensors", "add", "cpu", "float32", {"n": "16"}) is None
    assert nodeids.family_of("tests/test_it.py::test_a[1]") is None
