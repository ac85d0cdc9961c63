"""The calibration cache: which best times of the reference kernels a later process takes over."""

import math

import pytest

from bench.measure import calibration, kernels
from bench.report import reasons
from tests.helpers.kernels import kernel


def test_the_best_of_a_day_is_known_to_the_next_process():
    first, slow = (
        kernels.ReferenceKernels([kernel(name, best_s=s) for name, s in pairs])
        for pairs in ([("core", 8e-6), ("memory", 2e-6)], [("core", 16e-6), ("memory", 1e-6)])
    )
    first.store("this machine")
    slow.load(calibration.known("this machine"))
    assert [one.best_s for one in slow] == [8e-6, 1e-6]
    slow.store("this machine")
    assert calibration.known("this machine") == {"core": 8e-6, "memory": 1e-6}
    assert calibration.known("another") == {}


def test_a_best_is_forgotten_after_a_day(monkeypatch):
    calibration.keep("here", {"core": 1e-6})
    later = calibration.time.time() + calibration.MAX_AGE_S + 1
    monkeypatch.setattr(calibration.time, "time", lambda: later)
    assert calibration.known("here") == {}
    calibration.keep("here", {"core": 2e-6})
    assert calibration.known("here") == {"core": 2e-6}


def test_hosts_that_share_a_cache_keep_their_bests_apart(monkeypatch):
    """As the nodes of a cluster do, with one home folder; no host is named in it."""
    for host, s in (("node-1", 1e-6), ("node-2", 2e-6)):
        monkeypatch.setattr("platform.node", lambda host=host: host)
        assert calibration.known("the same hardware") == {}
        calibration.keep("the same hardware", {"core": s})
        assert calibration.known("the same hardware") == {"core": s}
    monkeypatch.setattr("platform.node", lambda: "node-1")
    assert calibration.known("the same hardware") == {"core": 1e-6}
    assert "node" not in calibration.path().read_text()


def test_threads_that_wait_in_another_way_have_bests_of_their_own(monkeypatch):
    calibration.keep("here", {"team": 2e-6})
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert calibration.known("here") == {}


def test_a_cache_with_an_absurd_time_is_thrown_away_whole_and_named():
    """Every cell of a day would be disturbed. Its other times are not of this machine either."""
    calibration.keep("here", {"core": 1e-12, "throughput": 7e-6})
    made = [kernel("core", best_s=8e-6), kernel("throughput", several=True, best_s=15e-6)]
    loaded = kernels.ReferenceKernels(made).load(calibration.known("here"), stolen=0.8)
    assert [one.best_s for one in loaded] == [8e-6, 15e-6]
    assert list(loaded.absurd) == ["core"]
    assert "its best time of core is no time of this machine" in reasons.absurd(loaded.absurd)
    loaded.store("here")
    assert calibration.known("here") == {"core": 8e-6, "throughput": 15e-6}


def test_a_kernel_that_was_not_searched_contradicts_nothing():
    calibration.keep("here", {"core": 9e-6})
    loaded = kernels.ReferenceKernels([kernel("core", best_s=math.inf)])
    loaded = loaded.load(calibration.known("here"))
    assert ([one.best_s for one in loaded], list(loaded.absurd)) == ([9e-6], [])


@pytest.mark.parametrize("kind", [{"several": True}, {"once_a_visit": True}])
def test_a_search_beside_other_processes_does_not_contradict_the_cache(kind):
    """Threads waited for each other, or every reading of some milliseconds was interrupted."""
    calibration.keep("here", {"slow": 15e-6})
    made = kernels.ReferenceKernels([kernel("slow", best_s=7e-3, **kind)])
    loaded = made.load(calibration.known("here"), stolen=0.8)
    assert ([one.best_s for one in loaded], list(loaded.absurd)) == ([15e-6], [])
    loaded.store("here")
    assert calibration.known("here") == {"slow": 15e-6}
    assert made.load({"slow": 1e-6}).absurd == ["slow"]


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"here": 3}', '{"here": {"stored": "x"}}', "{", "[" * 100_000]
)
def test_a_spoilt_cache_is_none(text):
    calibration.path().write_text(text)
    assert calibration.known("here") == {}
    calibration.keep("here", {"core": 2e-6})
    assert calibration.known("here") == {"core": 2e-6}


def test_a_cache_that_cannot_be_written_is_none(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(calibration, "path", lambda: tmp_path / "file" / "x.json")
    calibration.keep("here", {"core": 2e-6})
    assert calibration.known("here") == {}
