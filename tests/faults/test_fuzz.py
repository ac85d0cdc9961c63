"""Damaged files: a small part of ``python -m tests.faults.fuzz``."""

import random

import pytest

from tests.faults import fuzz, targets


@pytest.mark.integration
def test_damaged_files_get_a_clear_answer(tmp_path):
    assert [one for one in fuzz.tries(80, tmp_path) if not isinstance(one, str)] == []


@pytest.mark.integration
@pytest.mark.parametrize("name", targets.TARGETS)
def test_other_damaged_files_get_a_clear_answer(tmp_path, name):
    for seed in range(2):
        folder = tmp_path / str(seed) / "own"
        folder.mkdir(parents=True)
        assert targets.TARGETS[name](random.Random(seed), folder) == ""


def test_a_fault_is_found(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("device")

    monkeypatch.setattr("bench.cli.results.read", broken)
    assert not all(isinstance(one, str) for one in fuzz.tries(12, tmp_path))
