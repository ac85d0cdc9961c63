"""Each compute thread gets a core of its own."""

import os

import pytest

from bench.measure import placement


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no thread affinity here")
def test_each_compute_thread_gets_a_cpu_of_its_own(python):
    """In a process of its own: this one has its threads already."""
    import subprocess
    import sys

    code = (
        "import os, torch; from bench.measure import placement\n"
        "before = os.sched_getaffinity(0)\n"
        "placed = placement.place(); cpus = list(placed.cpus.values())\n"
        "wanted = torch.get_num_threads()\n"
        "assert len(cpus) in (0, wanted) and len(set(cpus)) == len(cpus), cpus\n"
        "assert not cpus or all(os.sched_getaffinity(t) == {c} for t, c in placed.cpus.items())\n"
        "with placed.unpinned():\n"
        "    assert os.sched_getaffinity(0) == before\n"
        "    assert os.fork() or os._exit(0)\n"  # which ends the compute threads
        "assert len(placed.cpus) in (0, len(cpus))  # beside some load none\n"
        "assert all(os.sched_getaffinity(t) == {c} for t, c in placed.cpus.items())\n"
        "placed.undo(); assert os.sched_getaffinity(0) == before; print(len(cpus))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    run = [python, "-c", code]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    if len(os.sched_getaffinity(0)) > 1 and not int(done.stdout):
        pytest.skip("beside this load it is not plain which threads compute")
    bound = environment | {"OMP_PROC_BIND": "true"}
    run = [sys.executable, "-c", code]  # libgomp reads it when it is loaded
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
