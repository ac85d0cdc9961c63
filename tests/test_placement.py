"""Each compute thread gets a core of its own."""

import os
import subprocess
import sys

import pytest

from bench.measure import placement


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no thread affinity here")
def test_each_compute_thread_gets_a_cpu_of_its_own():
    """In processes of their own, whose threads start there."""
    code = (
        "import os, torch; from bench.measure import placement\n"
        "before = os.sched_getaffinity(0)\n"
        "placed = placement.place(); cpus = list(placed.cpus.values())\n"
        "wanted = torch.get_num_threads()\n"
        "assert len(cpus) in (0, wanted) and len(set(cpus)) == len(cpus), cpus\n"
        "assert not cpus or all(os.sched_getaffinity(t) == {c} for t, c in placed.cpus.items())\n"
        "with placed.unpinned():\n"
        "    assert os.sched_getaffinity(0) == before\n"
        "    assert os.fork() or os._exit(0)\n"
        "assert len(placed.cpus) == len(cpus)\n"
        "assert all(os.sched_getaffinity(t) == {c} for t, c in placed.cpus.items())\n"
        "placed.undo(); assert os.sched_getaffinity(0) == before; print(len(cpus))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    if len(os.sched_getaffinity(0)) > 1 and not int(done.stdout):
        pytest.skip("beside this load it is not plain which threads compute")
    bound = environment | {"OMP_PROC_BIND": "true"}  # libgomp reads it when it is loaded
    done = subprocess.run(run, env=bound, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_physical_cores_come_before_their_siblings(monkeypatch, tmp_path):
    monkeypatch.setattr(placement, "_CPUS", tmp_path)
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3", "4"]):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(siblings)
    assert placement.by_core(frozenset(range(5))) == [0, 2, 4, 1, 3]
    assert placement.by_core(frozenset({1, 2, 3})) == [1, 2, 3]
    with pytest.raises(OSError, match="No such file"):
        placement.by_core(frozenset({9}))


def test_placing_is_left_alone_where_threads_outnumber_cpus(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 4096)
    assert placement.place().cpus == {}


@pytest.fixture
def two_cpus(monkeypatch):
    """Two free CPUs and two compute threads, 1 (the main thread) and 3; 2 sleeps.

    Returns the share of a core that each thread uses, and the CPUs to which they are pinned.
    """
    used, pinned = {1: 1.0, 2: 0.01, 3: 1.0}, {}
    seconds = (n / 2 for n in range(10**6))

    def pin(thread, cpus):
        if thread not in used:
            raise ProcessLookupError
        pinned[thread] = set(cpus)

    busy_s = dict.fromkeys(used, 0.0)

    def busy_ns():
        for thread, share in used.items():
            busy_s[thread] = busy_s.get(thread, 0.0) + share * 1e9
        return {thread: busy_s[thread] for thread in used}

    for name in placement.PLACED_BY_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", pin, raising=False)
    monkeypatch.setattr(placement, "by_core", sorted)
    monkeypatch.setattr(placement, "CPUS_AT_START", set())
    monkeypatch.setattr(placement, "_busy_ns", busy_ns)
    monkeypatch.setattr("bench.measure.kernels.synchronisation", lambda: lambda: None)
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    monkeypatch.setattr(placement, "_TASKS", placement.Path(os.devnull).parent)
    monkeypatch.setattr(placement.Path, "exists", lambda path: True)
    return used, pinned


@pytest.mark.parametrize("share", [1.0, 0.3, 0.15])
def test_compute_threads_are_found_beside_busy_processes(two_cpus, share):
    """A thread that shares its core with other programs is not busy all the time."""
    used, pinned = two_cpus
    used[3] = share
    assert placement.place().cpus == {1: 0, 3: 1}
    assert pinned == {1: {0}, 3: {1}}


def test_threads_that_cannot_be_found_again_are_pinned_as_before(two_cpus):
    used, pinned = two_cpus
    placed = placement.place()
    with placed.unpinned():
        assert pinned == {1: {0, 1}, 3: {0, 1}}
        used[3] = 0.0
    assert pinned == {1: {0}, 3: {1}} == {t: {cpu} for t, cpu in placed.cpus.items()}
    with placed.unpinned():
        del used[3]  # it has ended
    assert placed.cpus == {1: 0}
