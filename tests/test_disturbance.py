"""Disturbance: stolen time, reference kernels, and the visits to a cell judged together."""

import itertools
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import devices, disturbance, kernels, rounds, visits
from bench.measure.answer import Answer, WrongAnswer
from bench.measure.cell import Cell
from bench.measure.cgroup import Throttling
from bench.measure.disturbance import DisturbanceMonitor, Visit
from bench.measure.threads import ThreadTimes
from bench.report import reasons
from tests.helpers.kernels import kernel

PLAN = rounds.Plan(8, 0.01, 0.001)


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


@pytest.mark.parametrize("device", ["", "gpu"])
def test_rounds_much_longer_than_the_shortest_of_all_visits_count_on_an_accelerator_only(device):
    """On the host, something disturbed them that no counter shows."""
    core = kernel()
    core.device = device
    known = kernels.ReferenceKernels([core])
    rounds_s = (1e-3, 1e-3, *(2e-3,) * 8)
    half = Visit(rounds_s, 1, kernels_s={"core": 1e-6})
    judged = visits.judge([half, Visit((3e-3,) * 8, 1, kernels_s={"core": 1e-6}), half], known)
    assert judged.columns["median_s"] == (2e-3 if device else 1e-3)
    assert judged.columns["rounds"] == (20 if device else 4)
    assert judged.columns["ci_high_s"] == pytest.approx(judged.columns["max_s"], rel=0.05)
    alone = visits.judge([half], known)
    assert alone.columns["median_s"] == 2e-3  # all of one visit may be disturbed: no comparison


def test_one_short_round_alone_may_be_luck():
    lucky = [Visit((5e-4, *(1e-3,) * 8), 1, kernels_s={"core": 1e-6})] * 2
    lucky[1] = Visit((1e-3,) * 8, 1, kernels_s={"core": 1e-6})
    judged = visits.judge(lucky, kernels.ReferenceKernels([kernel()]))
    assert judged.columns["median_s"] == 1e-3
    assert judged.columns["rounds"] == 17


@given(st.lists(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12), min_size=1, max_size=4))
def test_the_interval_holds_the_median_whatever_the_rounds(rounds_of_visits):
    made = [Visit(tuple(r), 1, kernels_s={"core": 1e-6}) for r in rounds_of_visits]
    columns = visits.judge(made, kernels.ReferenceKernels([kernel()])).columns
    assert columns["rounds"] >= 1
    assert columns["ci_low_s"] <= columns["median_s"] <= columns["ci_high_s"]


class Tasks:
    """A folder like ``/proc/self/task`` whose times the test sets, in nanoseconds."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        monkeypatch.setattr("threading.get_native_id", lambda: 1)
        self.times = ThreadTimes(tasks=folder)

    def set(self, task, ran, waited=0, state="S"):
        (self.folder / str(task)).mkdir(exist_ok=True)
        (self.folder / str(task) / "schedstat").write_text(f"{ran} {waited} 7\n")
        (self.folder / str(task) / "stat").write_text(f"{task} (a) R thread) {state} 1 1\n")


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
    tasks.set(2, 1_800_000, 9_000_000)
    monitor.after_round(1e-3)
    assert monitor.stolen[1] == disturbance.MOST_STOLEN
    assert monitor.visit([1e-3, 1e-3], 1).stolen == tuple(monitor.stolen)
    assert not tasks.times.files


@pytest.mark.real_machine
@pytest.mark.parametrize(
    ("worked_ns", "state", "parallel"), [(0, "S", False), (10**9, "S", True), (0, "R", True)]
)
def test_an_operation_uses_several_threads_if_they_work_or_are_awake_after_its_warm_up(
    tasks, worked_ns, state, parallel
):
    """The time of a thread that runs is counted at the next tick only."""
    tasks.set(1, 0, state="R")  # the calling thread
    tasks.set(2, 5_000)
    monitor = DisturbanceMonitor(times=tasks.times)
    with monitor.first_warm_up():
        tasks.set(2, 5_000 + worked_ns, state=state)
    assert monitor.parallel == parallel
    assert monitor.visit([1e-3], 1).parallel == parallel


@pytest.mark.real_machine
def test_threads_that_an_earlier_operation_left_spinning_are_not_those_of_this_one(
    tasks, monkeypatch
):
    tasks.set(1, 0)
    tasks.set(2, 0, state="R")
    asleep = [8_000_000]  # it spins for 8 ms more, then sleeps
    monkeypatch.setattr("time.sleep", lambda _: tasks.set(2, asleep.pop()))
    monitor = DisturbanceMonitor(times=tasks.times)
    with monitor.first_warm_up():
        pass
    assert not monitor.parallel


@pytest.mark.real_machine
def test_nothing_waits_again_and_again_for_threads_that_never_sleep(tasks, monkeypatch):
    monkeypatch.setattr(DisturbanceMonitor, "in_vain", 0)
    monkeypatch.setattr(disturbance, "ASLEEP_S", 0.0)
    tasks.set(1, 0)
    tasks.set(2, 0, state="R")
    waits = []
    for _ in range(10):
        DisturbanceMonitor(times=tasks.times).let_sleep(lambda: waits.append(1))
    assert DisturbanceMonitor.in_vain == disturbance.GIVE_UP
    tasks.times.close()


@pytest.mark.real_machine
@pytest.mark.parametrize(("parallel", "calls"), [(False, 1 + 20), (True, 1 + 4)])
def test_a_later_visit_of_one_thread_warms_up_until_the_other_threads_sleep(tasks, parallel, calls):
    tasks.set(1, 0)
    tasks.set(2, 0, state="R")
    made = []

    def loop(count):
        made.append(count)
        if len(made) == 20:
            tasks.set(2, 8_000_000)
        return count * 1e-3

    plan = rounds.Plan(min_rounds=1, max_time_s=0, min_time_s=1e-3)
    earlier = Visit((1e-3,), 1, parallel=parallel)
    rounds.measure(loop, plan, monitor=DisturbanceMonitor(times=tasks.times), earlier=earlier)
    assert len(made) == calls


@pytest.mark.real_machine
def test_threads_that_end_are_left_out(tasks):
    tasks.set(1, 0, 0)
    tasks.set(2, 5_000, 0)
    tasks.times.discover()
    assert tasks.times.read() == (5e-6, 0.0)
    shutil.rmtree(tasks.folder / "2")
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
    for parallel, names in ((False, {"core", "memory"}), (True, {"throughput", "memory"})):
        monitor = DisturbanceMonitor(
            kernels.ReferenceKernels([one, several, both]), times=tasks.times, parallel=parallel
        )
        monitor.begin()
        for _ in range(3):
            monitor.after_round(1e-3)
        made = monitor.visit([1e-3] * 3, 1)
        assert made.kernels_s.keys() == names
        assert made.core_s  # of each cell
        assert len(monitor.readings["memory"]) == 1


@pytest.mark.real_machine
def test_a_reading_is_the_quickest_of_some_attempts(monkeypatch):
    made = kernels.ReferenceKernel("core", lambda: None, 1.2, "slow_core", usual=1.0)
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


def test_drift_compares_the_last_third_with_the_first():
    assert disturbance.drift([1.0, 1.0, 9.0, 1.0, 1.1, 1.1]) == pytest.approx(0.1)
    assert disturbance.drift([1.0] * 5) is None


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


@pytest.mark.real_machine
@pytest.mark.parametrize("waiting", [1, 3])
def test_a_reading_during_which_a_thread_waited_does_not_count(tasks, waiting):
    """What waiting costs is known of each round; of three readings, `waiting` waited."""
    several, seconds = kernel("throughput", several=True), iter([9e-3] * waiting + [1e-6] * 3)
    tasks.set(1, 0, 0)
    tasks.set(2, 0, 0)
    monitor = DisturbanceMonitor(kernels.ReferenceKernels([several]), times=tasks.times)
    monitor.parallel = True
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


def test_a_neighbour_costs_more_than_the_time_that_it_took():
    """Caches are cold also in the rounds that lost nothing, so the interval reaches further."""
    quiet, beside = (
        visits.judge([Visit((1e-3,) * 12, 1, stolen=stolen)], kernels.ReferenceKernels())
        for stolen in ((0.0,) * 12, (0.0, 0.5) * 6)
    )
    assert beside.columns["rounds"] == 6
    cost = 1 + visits.COLD * 0.25
    assert beside.columns["ci_low_s"] == pytest.approx(quiet.columns["ci_low_s"] / cost)
    assert beside.columns["ci_high_s"] == quiet.columns["ci_high_s"]
