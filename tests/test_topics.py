"""Every topic of a first course in PyTorch has its benchmarks, and every benchmark its topic."""

import ast
import re
from pathlib import Path

from bench.records import params

ROOT = Path(__file__).parent.parent
#: What a beginner's notes on PyTorch speak of, in their order.
TOPICS = (
    "Dataset",
    "DataLoader",
    "transform and target_transform",
    "Devices",
    "Datatypes",
    "Moving tensors to a device",
    "torch.cat",
    "In-place operations",
    "Bridge with numpy",
    "Creating tensors",
    "*_like",
    "ToTensor",
    "Lambda and one-hot",
    "Building a network",
    "Flatten",
    "Linear",
    "ReLU",
    "Sequential",
    "Softmax",
    "Parameters",
    "Gradients",
    "A second backward",
    "Disabling gradient tracking",
    "Frozen parameters",
    "Loss",
    "Optimization loop",
    "Hyperparameters",
    "SGD",
    "Momentum",
    "RMSprop",
    "Adam",
)


def mapped():
    """Topic -> benchmarks, from the table of the document."""
    text = (ROOT / "docs" / "topics.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", text, re.M)
    rows = [row for row in rows if row[0] not in ("topic", "---")]
    return {topic.replace("`", ""): set(re.findall(r"`(\w+/\w+)`", names)) for topic, names in rows}


def benchmarks():
    """Return the syntax tree of each benchmark by its family and name."""
    return {
        f"{path.parent.name}/{node.name.removeprefix('bench_')}": node
        for path in (ROOT / "bench" / "suite").glob("*/bench_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("bench_")
    }


def test_every_topic_is_mapped_to_benchmarks():
    table = mapped()
    assert [topic for topic in table if topic in TOPICS] == list(TOPICS)
    assert all(table.values())


def test_every_benchmark_is_on_the_map_and_nothing_else():
    assert set.union(*mapped().values()) == benchmarks().keys()


def test_every_benchmark_has_fewer_than_ten_lines():
    def lines(function):
        first = function.body[ast.get_docstring(function) is not None]
        return function.end_lineno - first.lineno + 1

    assert [name for name, one in benchmarks().items() if lines(one) >= 10] == []


def test_params_are_words_the_csv_can_split():
    assert params.split("a=1;b=two") == {"a": "1", "b": "two"}
