"""Disturbance: stolen time, reference kernels, and the visits to a cell judged together."""

import itertools
import math
import os

import pytest
import torch

from bench.measure import calibration, devices, disturbance, kernels, placement, rounds, visits
from bench.measure.answer import Answer, WrongAnswer
from bench.measure.cell import Cell
from bench.measure.cgroup import Throttling
from bench.measure.disturbance import DisturbanceMonitor, Visit
from bench.measure.threads import ThreadTimes
from bench.report import reasons

PLAN = rounds.Plan(8, 0.01, 0.001)


def kernel(name="core", code="slow_core", several=False, best_s=1e-6, **more):
    """A reference kernel that takes its best time."""
    more = {"usual": 1.0, **more}
    made = kernels.ReferenceKernel(name, lambda: lambda: None, 1.2, code, several, **more)
    made.read = lambda: best_s
    made.best_s = best_s
    return made


def found(*made, **given):
    """What is found of a visit of eight rounds beside these kernels, by code."""
    visit = Visit((1e-3,) * 8, 1, **given)
    judged = visits.judge([visit], kernels.ReferenceKernels(made))
    return {one.code: dict(one.figures) for one in judged.found}


def test_a_slow_kernel_is_named_with_its_factor_and_reaches_the_interval():
    core = kernel()
    assert found(core, kernels_s={"core": 1.1e-6}) == {}
    assert found(core, kernels_s={"core": 2e-6}) == {"slow_core": {"times": 2.0}}
    quick, slow = (
        visits.judge(
            [Visit((1e-3,) * 8, 1, kernels_s={"core": s})], kernels.ReferenceKernels([core])
        )
        for s in (1e-6, 2e-6)
    )
    assert slow.columns["ci_low_s"] == pytest.approx(quick.columns["ci_low_s"] / 2)
    assert slow.columns["ci_high_s"] == quick.columns["ci_high_s"]
    assert slow.columns["slowdown"] == 2.0


def test_a_best_time_that_is_found_later_counts_for_earlier_visits():
    core = kernel(best_s=2e-6)
    visit = Visit((1e-3,) * 8, 1, kernels_s={"core": 2e-6})
    assert visits.judge([visit], kernels.ReferenceKernels([core])).columns["slowdown"] == 1
    core.best_s = 1e-6
    assert visits.judge([visit], kernels.ReferenceKernels([core])).columns["slowdown"] == 2


def test_stolen_time_is_named_and_reaches_the_interval():
    assert found(stolen=(0.003,) * 8) == {}
    assert found(stolen=(0.2,) * 8) == {"stolen": {"share": pytest.approx(0.2)}}
    lost = visits.judge([Visit((1e-3,) * 8, 1, stolen=(0.5,) * 8)], kernels.ReferenceKernels())
    assert lost.columns["ci_low_s"] < 0.5e-3 < 1e-3 < lost.columns["ci_high_s"]
    assert lost.columns["stolen"] == pytest.approx(0.5)
    assert lost.width > 2


def test_time_under_a_quota_is_stolen():
    stopped = Throttling(40, 38, 0.004)
    assert found(throttled=stopped)["throttled"] == {"stopped": 38, "periods": 40}
    half = visits.judge([Visit((1e-3,) * 8, 1, throttled=stopped)], kernels.ReferenceKernels())
    assert half.columns["ci_low_s"] < 0.5e-3
    assert found(throttled=Throttling(40, 0, 0.0)) == {}


def test_every_disturbance_has_words():
    codes = {one.code for one in kernels.all_kernels()} | {"stolen", "throttled", "wide", "uneven"}
    assert codes <= set(reasons.WORDS)


def test_a_disturbed_visit_is_set_aside_once_a_quiet_one_is_known():
    """Its rounds are not part of the statistics either: disturbance only adds."""
    disturbed, quiet = Visit((2e-3,) * 8, 1, stolen=(0.5,) * 8), Visit((1e-3,) * 8, 1)
    judged = visits.judge([disturbed, quiet, quiet], kernels.ReferenceKernels())
    assert judged.columns["max_s"] == 1e-3
    assert judged.columns["rounds"] == 16
    assert judged.width_within == pytest.approx(1.0)
    assert judged.found == ()


def test_a_visit_most_of_whose_rounds_were_disturbed_leaves_the_median_within_the_interval():
    """Threads that share a core synchronise a hundred times slower in most rounds, not in all."""
    most = Visit((1e-3,) * 10 + (0.2,) * 20, 1)
    judged = visits.judge([most, Visit((1e-3,) * 8, 1), most], kernels.ReferenceKernels())
    assert judged.columns["rounds"] == 8
    assert judged.columns["median_s"] == 1e-3
    assert judged.columns["ci_low_s"] < 1e-3 < judged.columns["ci_high_s"]


class Tasks:
    """A folder like ``/proc/self/task`` whose times the test sets, in nanoseconds."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        monkeypatch.setattr("threading.get_native_id", lambda: 1)
        self.times = ThreadTimes(tasks=folder)

    def set(self, task, ran, waited):
        (self.folder / str(task)).mkdir(exist_ok=True)
        (self.folder / str(task) / "schedstat").write_text(f"{ran} {waited} 7\n")


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "task").mkdir()
    return Tasks(tmp_path / "task", monkeypatch)


@pytest.mark.real_machine
def test_the_time_in_which_a_thread_was_ready_and_did_not_run_is_stolen(tasks):
    tasks.set(1, 10_000, 0)
    tasks.set(2, 0, 0)
    monitor = DisturbanceMonitor(times=tasks.times)
    monitor.begin()
    tasks.set(1, 510_000, 100_000)
    tasks.set(2, 10_000, 150_000)
    monitor.after_round(1e-3)
    assert monitor.stolen == pytest.approx([0.25])
    assert not monitor.parallel
    tasks.set(2, 1_800_000, 9_000_000)
    monitor.after_round(1e-3)
    assert monitor.stolen[1] == disturbance.MOST_STOLEN
    assert monitor.parallel
    assert monitor.visit([1e-3, 1e-3], 1).stolen == tuple(monitor.stolen)
    assert not tasks.times.files
    monitor.restart()
    assert (monitor.stolen, monitor.parallel) == ([], False)


@pytest.mark.real_machine
def test_threads_that_end_are_left_out(tasks):
    tasks.set(1, 0, 0)
    tasks.set(2, 5_000, 0)
    tasks.times.discover()
    assert tasks.times.read() == (5e-6, 0.0)
    (tasks.folder / "2" / "schedstat").unlink()
    (tasks.folder / "2").rmdir()
    tasks.times.discover()
    assert tasks.times.read() == (0.0, 0.0)
    tasks.times.close()


@pytest.mark.real_machine
@pytest.mark.parametrize(("waited", "stolen"), [([0.0, 2e-4], (0.2,)), ([None, None], None)])
def test_without_such_files_the_platform_is_asked_and_may_not_know(
    monkeypatch, tmp_path, waited, stolen
):
    monkeypatch.setattr("bench.measure.threads._waited_elsewhere", iter(waited).__next__)
    times = ThreadTimes(tasks=tmp_path / "nothing")
    monitor = DisturbanceMonitor(times=times)
    monitor.begin()
    monitor.after_round(1e-3)
    visit = monitor.visit([1e-3], 1)
    assert visit.stolen == (stolen and pytest.approx(stolen))


@pytest.mark.real_machine
def test_kernels_of_several_threads_are_read_for_operations_that_use_several(tasks):
    one, several = kernel("core"), kernel("throughput", "slow_throughput", True)
    both = kernel("memory", "slow_memory", None, once_a_visit=True)
    for ran, names in ((0, {"core", "memory"}), (900_000, {"throughput", "memory"})):
        tasks.set(1, 0, 0)
        tasks.set(2, 0, 0)
        monitor = DisturbanceMonitor(
            kernels.ReferenceKernels([one, several, both]), times=tasks.times
        )
        monitor.begin()
        for number in range(3):
            tasks.set(2, ran * (number + 1), 0)
            monitor.after_round(1e-3)
        assert monitor.visit([1e-3] * 3, 1).kernels_s.keys() == names
        assert len(monitor.readings["memory"]) == 1


@pytest.mark.real_machine
def test_a_reading_is_the_quickest_of_some_attempts(monkeypatch):
    made = kernels.ReferenceKernel("core", lambda: lambda: None, 1.2, "slow_core", usual=1.0)
    now = itertools.accumulate(itertools.chain([0.0], itertools.cycle([20e-6, 1e-6])))
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: next(now))
    made.best_s = 10e-6
    assert made.slowdown(made.read()) == pytest.approx(2)
    made.best_s = 50e-6
    assert made.slowdown(made.read()) == 1
    assert made.best_s == 50e-6
    assert made.learn([20e-6, 30e-6]) == pytest.approx(25e-6)
    assert made.best_s == pytest.approx(25e-6)


def test_a_later_visit_adds_its_rounds_and_does_not_check_again():
    device = devices.find("cpu")
    first = Cell(device, torch.float32, PLAN)
    first(torch.neg, first.tensor(4))
    rel_error, first_call_s = first.result.answer.rel_error, first.result.first_call_s
    later = Cell(device, torch.float32, PLAN, earlier=first.result)
    later(torch.neg, later.tensor(4), against=torch.abs)
    assert later.result is first.result
    assert len(first.result.visits) == 2
    assert first.result.visits[0].iterations == first.result.visits[1].iterations
    assert (first.result.answer.rel_error, first.result.first_call_s) == (rel_error, first_call_s)


def test_a_wrong_answer_has_a_time_too():
    cell = Cell(devices.find("cpu"), torch.float32, PLAN)
    with pytest.raises(WrongAnswer):
        cell(torch.neg, cell.tensor(4), against=torch.abs)
    assert cell.result.visits
    assert cell.result.answer.fault


def test_kernels_of_the_host_are_no_part_of_another_device(simulated):
    reference = kernels.ReferenceKernels(
        [
            kernel("core"),
            kernel("throughput", several=True),
            kernel("memory", several=None, once_a_visit=True),
        ]
    )
    cell = Cell(simulated.device(), torch.float32, PLAN, reference=reference)
    cell(simulated.launch, 1e-4, check=lambda *_: Answer())
    assert cell.result.visits[0].kernels_s.keys() == {"core"}


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


def test_drift_compares_the_last_third_with_the_first():
    assert disturbance.drift([1.0, 1.0, 9.0, 1.0, 1.1, 1.1]) == pytest.approx(0.1)
    assert disturbance.drift([1.0] * 5) is None


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


def test_a_wait_that_does_not_wait_is_caught(suite, simulated):
    assert simulated.device().synchronize_waits()
    device = devices.Device(
        "sim",
        simulated.device().torch_device,
        lambda: None,
        simulated.now,
        launcher=simulated.long_work,
    )
    assert not device.synchronize_waits()
    devices.OTHERS["sim"] = device
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    result = suite.run("--device", "sim")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --device: sim cannot be used: synchronisation does not*"])
    assert not suite.files()  # refused before a file is made


def test_an_unrepeatable_answer_is_wrong(suite):
    suite.write("""
    import itertools
    count = itertools.count()

    @dtypes("float32")
    def bench_flaky(cell):
        cell(lambda x: x * (1 + 1e-7 * (next(count) % 2)), cell.tensor(1000))
    """)
    suite.run("--profile", "smoke")
    row = suite.rows().iloc[0]
    assert row.status == "wrong"
    assert row.reason == "not repeatable: a call after the rounds gives other bits than the first"


def test_a_very_slow_operation_ends_at_the_limit():
    plan = rounds.Plan(20, 0.5, 0.001, limit_s=20)
    calls = itertools.count()

    def loop(count):
        next(calls)
        return 27.0 * count

    assert len(rounds.measure(loop, plan).rounds_s) == 1
    assert next(calls) == 2


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


def test_a_search_beside_other_processes_does_not_contradict_the_cache():
    calibration.keep("here", {"throughput": 15e-6})
    made = kernels.ReferenceKernels([kernel("throughput", several=True, best_s=7e-3)])
    loaded = made.load(calibration.known("here"), stolen=0.8)
    assert ([one.best_s for one in loaded], list(loaded.absurd)) == ([15e-6], [])
    loaded.store("here")
    assert calibration.known("here") == {"throughput": 15e-6}


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


@pytest.mark.real_machine
@pytest.mark.parametrize("waiting", [1, 3])
def test_a_reading_during_which_a_thread_waited_does_not_count(tasks, waiting):
    """What waiting costs is known of each round; of three readings, `waiting` waited."""
    several, seconds = kernel("throughput", several=True), iter([9e-3] * waiting + [1e-6] * 3)
    tasks.set(1, 0, 0)
    tasks.set(2, 0, 0)
    monitor = DisturbanceMonitor(kernels.ReferenceKernels([several]), times=tasks.times)
    monitor.others_s, monitor.timed_s = 1.0, 1.0  # the operation uses several threads
    waited = 0

    def read():
        nonlocal waited
        took = next(seconds)
        waited += 10**9 if took > 1e-3 else 0
        tasks.set(2, 0, waited)
        return took

    several.read = read
    monitor.begin()
    for _ in range(2):
        monitor.after_round(1e-3)
    made = monitor.visit([1e-3] * 2, 1)
    assert made.kernels_s == ({"throughput": pytest.approx(1e-6)} if waiting < 3 else {})
    assert made.stolen == (0.0, 0.0)


def test_a_long_call_loses_more_to_a_neighbour_than_what_it_took():
    short, long = (
        visits.judge([Visit((s,) * 8, 1, stolen=(0.2,) * 8)], kernels.ReferenceKernels())
        for s in (visits.LONG_S / 2, visits.LONG_S)
    )
    assert long.width / short.width == pytest.approx((1 + 1.25 * 0.2) / (1 + 0.5 * 0.2))
