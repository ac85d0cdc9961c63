"""Damaged files: a small part of ``python -m tests.faults.fuzz``."""

import pytest

from tests.faults import fuzz


@pytest.mark.integration
def test_damaged_files_get_a_clear_answer(tmp_path):
    assert list(fuzz.tries(80, tmp_path)) == []


def test_a_fault_is_found(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("device")

    monkeypatch.setattr("bench.cli.results.read", broken)
    assert {name for name, _, _ in fuzz.tries(12, tmp_path)}
