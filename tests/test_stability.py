"""Disturbance: what is seen in rounds and counters, and the attempts that follow."""

import itertools
import os
import random
import re

import pytest
import torch

from bench.measure import calibration, devices, disturbance, placement, rounds
from bench.measure.answer import Answer, WrongAnswer
from bench.measure.cell import Cell, Disturbed, Result


def noise(count, level=1e-3, spread=0.01, seed=3):
    source = random.Random(seed)
    return [level * source.lognormvariate(0, spread) for _ in range(count)]


@pytest.mark.parametrize("spread", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("count", [8, 20, 100])
def test_quiet_rounds_have_no_fault(count, spread):
    hits = sum(
        bool(disturbance.judge(noise(count, spread=spread, seed=s), 10, 3, 0.1).faults)
        for s in range(100)
    )
    assert hits <= (2 if spread < 0.05 else 10)


def test_two_levels_are_named():
    mixed = noise(20, 6e-6) + noise(10, 16e-3)
    random.Random(1).shuffle(mixed)
    (fault,) = [f for f in disturbance.judge(mixed, 1, 0, 0.1).faults if "fall on" in f]
    assert re.fullmatch(r"rounds fall on [56][.\d]* us and 1[56][.\d]* ms", fault)


def test_a_few_outliers_are_no_level():
    assert disturbance.levels(noise(30) + noise(2, 20e-3)) is None


def test_drift_is_seen():
    warming = [1e-3 * (1 + i / 40) for i in range(30)]
    signs = disturbance.judge(warming, 1, 0, 0.1)
    assert signs.drift == pytest.approx(24.5 / 40 / 1.1125 - 4.5 / 40 / 1.1125, abs=0.02)
    assert any("last rounds" in fault for fault in signs.faults)
    assert disturbance.drift([1.0] * 5) is None


def test_switches_and_a_slow_cpu_are_seen():
    signs = disturbance.judge(noise(20, 16e-3), 1, 100, 0.32)
    assert signs.involuntary_switches == 5
    assert "(5 per call): another process shares a core" in signs.faults[0]
    assert disturbance.judge(noise(20), 1, None, 0.1).involuntary_switches is None
    assert "1.8 times slower" in disturbance.judge(noise(20), 1, 0, 0.1, slow_core=1.8).faults[0]


def disturbed_suite(suite, calm_after):
    """A benchmark whose rounds are judged disturbed until the given attempt."""
    suite.write(f"""
    from bench.measure import disturbance
    judge, seen = disturbance.judge, []

    @dtypes("float32")
    def bench_neg(cell):
        seen.append(1)
        if len(seen) < {calm_after}:
            fault = disturbance.Signs(2.0, 0.1, ("a neighbour",))
        else:
            fault = disturbance.Signs(0.0, 0.0)
        disturbance.judge = lambda *_: fault
        try:
            cell(torch.neg, cell.tensor(4))
        finally:
            disturbance.judge = judge

    @dtypes("float32")
    def bench_other(cell):
        disturbance.judge = lambda *_: disturbance.Signs(0.0, 0.0)
        try:
            cell(torch.neg, cell.tensor(4))
        finally:
            disturbance.judge = judge
    """)
    return suite.run("--benchmark-max-time=0.001", "--benchmark-json=out.json")


def test_a_disturbed_cell_is_measured_again_later(suite):
    result = disturbed_suite(suite, calm_after=2)
    assert result.ret == 0
    rows = suite.rows()
    assert list(rows.benchmark) == ["other", "neg"]
    assert list(rows.status) == ["ok", "ok"]
    result.stdout.fnmatch_lines(["*2 passed, 1 measured again*"])


def test_a_cell_that_never_settles_is_unstable_and_says_why(suite):
    result = disturbed_suite(suite, calm_after=99)
    assert result.ret == 0
    row = suite.rows().set_index("benchmark").loc["neg"]
    assert (row.status, row.reason) == ("unstable", "a neighbour")
    assert row.involuntary_switches == 2
    assert row.median_s > 0
    result.stdout.fnmatch_lines(["*neg*unstable*", "*2 passed, 2 measured again*"])


def test_the_first_call_of_a_cell_is_that_of_its_first_attempt(monkeypatch):
    monkeypatch.setattr(disturbance, "judge", lambda *_: disturbance.Signs(0.0, 0.0))
    before = Result(first_call_s=3.0, timing=rounds.Timing((5e-3,) * 8, 1))
    plan = rounds.Plan(8, 0.01, 0.001)
    cell = Cell(devices.find("cpu"), torch.float32, plan, earlier=[before])
    cell(torch.neg, cell.tensor(4))
    assert cell.result is not before
    assert cell.result.first_call_s == 3.0


def test_of_disturbed_attempts_the_least_disturbed_stands(monkeypatch):
    times = iter([3e-3, 1e-3, 2e-3])
    monkeypatch.setattr(rounds, "measure", lambda *_, **__: rounds.Timing((next(times),) * 8, 1))
    monkeypatch.setattr(disturbance, "judge", lambda *_: disturbance.Signs(1.0, None, ("x",)))
    earlier = []
    for last in (False, False, True):
        plan = rounds.Plan(8, 0.1, 0.001)
        device = devices.find("cpu")
        cell = Cell(device, torch.float32, plan, earlier=earlier, may_repeat=not last)
        if last:
            cell(torch.neg, cell.tensor(4))
        else:
            with pytest.raises(Disturbed):
                cell(torch.neg, cell.tensor(4))
    assert cell.result.timing.rounds_s[0] == 1e-3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no thread affinity here")
def test_each_compute_thread_gets_a_cpu_of_its_own():
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
        "with placed.lifted():\n"
        "    assert os.sched_getaffinity(0) == before\n"
        "    assert os.fork() or os._exit(0)\n"  # which ends the compute threads
        "assert len(placed.cpus) in (0, len(cpus))  # beside some load none\n"
        "assert all(os.sched_getaffinity(t) == {c} for t, c in placed.cpus.items())\n"
        "placed.undo(); assert os.sched_getaffinity(0) == before; print(len(cpus))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    if len(os.sched_getaffinity(0)) > 1 and not int(done.stdout):
        pytest.skip("beside this load it is not plain which threads compute")
    bound = environment | {"OMP_PROC_BIND": "true"}
    done = subprocess.run(run, env=bound, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_a_wait_that_does_not_wait_is_caught(suite, simulated):
    assert simulated.device().wait_waits(simulated.device().long_work)
    device = devices.Device(
        "sim",
        simulated.device().torch_device,
        lambda: None,
        simulated.now,
        launcher=simulated.long_work,
    )
    assert not device.wait_waits(device.long_work)
    devices.register(device)
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    result = suite.run("--device", "sim")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --device sim: waiting for the device does not wait*"])
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
    assert row.reason == "not repeatable: two calls on the same input give different bits"


def test_a_very_slow_operation_ends_at_the_limit():
    plan = rounds.Plan(20, 0.5, 0.001, limit_s=20)
    calls = itertools.count()

    def loop(count):
        next(calls)
        return 27.0 * count

    assert len(rounds.measure(loop, plan).rounds_s) == 1
    assert next(calls) == 2


class Machine:
    """Calm or not, look by look."""

    def __init__(self, looks):
        self.looks, self.calm, self.seen, self.late = looks, True, [], False

    def look(self, _):
        self.calm = next(self.looks)
        self.seen.append(self.calm)
        return self.calm

    begin = settle = look


def test_a_round_that_ended_in_a_disturbance_does_not_count_once_that_has_passed():
    class Passing(Machine):
        def begin(self, _):
            return True

        settle = begin

    machine = Passing(itertools.cycle([True, False, True]))
    plan = rounds.Plan(8, 0.05, 0.001, precision=0)
    timing = rounds.measure(lambda count: count * 1e-3, plan, 0, machine)
    assert timing.calm
    assert len(timing.rounds_s) == machine.seen.count(True) < len(machine.seen)


def test_only_rounds_between_calm_moments_count():
    """The machine is busy at every fifth look; rounds beside it take twice as long."""
    plan = rounds.Plan(8, 0.05, 0.001, precision=0)
    machine = Machine(itertools.cycle([True, True, True, True, False]))
    timing = rounds.measure(
        lambda count: count * (1e-3 if machine.calm else 2e-3), plan, 0, machine
    )
    assert timing.calm
    assert set(timing.rounds_s) == {1e-3}
    busy = rounds.measure(lambda count: count * 2e-3, plan, 0, Machine(itertools.repeat(False)))
    assert not busy.calm
    assert len(busy.rounds_s) >= plan.min_rounds


def test_rounds_before_a_late_discovery_do_not_count():
    """Nothing had looked at the threads beside them."""

    class Late(Machine):
        def look(self, _):
            self.late = len(self.seen) >= 3
            return super().look(_)

        begin = settle = Machine.look

    machine = Late(itertools.repeat(True))
    plan = rounds.Plan(8, 0.05, 0.001, precision=0)
    seconds = itertools.chain([9e-3] * 6, itertools.repeat(1e-3))
    timing = rounds.measure(lambda count: count * next(seconds), plan, 0, machine)
    assert timing.calm
    assert 9e-3 not in timing.rounds_s


def test_what_was_wrong_once_is_not_asked_again(monkeypatch):
    """The next answer might happen to be right; the time of a calmer attempt may stand."""
    monkeypatch.setattr(disturbance, "judge", lambda *_: disturbance.Signs(1.0, None, ("x",)))
    plan = rounds.Plan(8, 0.01, 0.001)
    cell = Cell(devices.find("cpu"), torch.float32, plan, may_repeat=True)
    with pytest.raises(WrongAnswer):
        cell(torch.neg, cell.tensor(4), against=torch.abs)
    assert cell.result.timing
    assert cell.result.answer.fault


def test_threads_of_the_host_are_no_part_of_another_device(simulated):
    sticks = disturbance.Yardsticks(scripted_yardstick(), scripted_yardstick(*[9.0] * 999))
    plan = rounds.Plan(8, 0.01, 0.001)
    seen = []
    watch = disturbance.Watch.__init__

    def noted(self, yardsticks, **more):
        seen.append(yardsticks)
        watch(self, yardsticks, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disturbance.Watch, "__init__", noted)
        one = Cell(simulated.device(), torch.float32, plan, yardsticks=sticks)
        one(simulated.launch, 1e-4, check=lambda *_: Answer())
        cpu = Cell(devices.find("cpu"), torch.float32, plan, yardsticks=sticks)
        cpu(torch.neg, cpu.tensor(4))
    assert seen[0].team is None
    assert seen[0].patience is sticks.patience
    assert seen[1].team is sticks.team


def scripted_yardstick(*seconds):
    """A yardstick that takes the given multiples of its best, then its best for ever."""
    stick = disturbance.Yardstick(lambda: None, search_s=0)
    readings = itertools.chain(seconds, itertools.repeat(1.0))
    stick.read = lambda: next(readings)
    return stick


@pytest.mark.real_machine
def test_the_yardstick_is_relative_to_its_best(monkeypatch):
    stick = disturbance.Yardstick(lambda: None, search_s=0)
    now = itertools.accumulate(itertools.chain([0.0], itertools.cycle([20e-6, 1e-6])))
    monkeypatch.setattr(disturbance.time, "perf_counter", lambda: next(now))
    stick.best_s = 10e-6
    assert stick.read() == pytest.approx(2)
    stick.best_s = 50e-6
    assert stick.read() == pytest.approx(1)
    assert stick.best_s == pytest.approx(20e-6)


def test_a_slow_core_is_named():
    watch = disturbance.Watch(disturbance.Yardsticks(scripted_yardstick(2.0)))
    assert not watch.look(1e-6)
    assert "the CPU ran 2 times slower" in watch.signs([1e-3] * 8, 1, calm=False).faults[0]
    assert not any("slower" in fault for fault in watch.signs([1e-3] * 8, 1, calm=True).faults)


def test_a_run_waits_for_a_disturbance_to_pass_while_its_patience_lasts(monkeypatch):
    slept = []
    monkeypatch.setattr(disturbance.time, "sleep", slept.append)
    sticks = disturbance.Yardsticks(
        scripted_yardstick(2.0, 2.0, 1.0, *[2.0] * 5), patience=disturbance.Patience(0.09)
    )
    watch = disturbance.Watch(sticks, patient=True)
    assert watch.settle(1e-6)
    assert slept == [disturbance.PAUSE_S] * 2
    assert not watch.settle(1e-6)
    assert len(slept) == 5
    assert watch.waited_s == pytest.approx(5 * disturbance.PAUSE_S)


def test_a_first_attempt_does_not_wait_and_a_further_one_without_calm_is_not_taken(monkeypatch):
    monkeypatch.setattr(disturbance.time, "sleep", lambda _: pytest.fail("waited"))
    sticks = disturbance.Yardsticks(
        scripted_yardstick(*[2.0] * 9), patience=disturbance.Patience(9.0)
    )
    assert not disturbance.Watch(sticks).begin(1e-6)
    sticks = disturbance.Yardsticks(
        scripted_yardstick(*[2.0] * 9), patience=disturbance.Patience(0.0)
    )
    with pytest.raises(disturbance.NeverCalm):
        disturbance.Watch(sticks, patient=True, again=True).begin(1e-6)


def test_a_repeat_that_finds_no_calm_leaves_the_earlier_attempt_standing():
    before = Result(
        timing=rounds.Timing((5e-3,) * 8, 1), signs=disturbance.Signs(1.0, None, ("x",))
    )
    sticks = disturbance.Yardsticks(
        scripted_yardstick(*[2.0] * 9), patience=disturbance.Patience(0.0)
    )
    plan = rounds.Plan(8, 0.01, 0.001)
    device = devices.find("cpu")
    cell = Cell(device, torch.float32, plan, yardsticks=sticks, earlier=[before], may_repeat=True)
    cell(torch.neg, cell.tensor(4))
    assert cell.result is before


def test_patience_grows_with_the_cells_between_two_bounds():
    assert disturbance.Patience.of(1).left_s == disturbance.LEAST_PATIENCE_S
    assert disturbance.Patience.of(40).left_s == 40 * disturbance.PATIENCE_S
    assert disturbance.Patience.of(10_000).left_s == disturbance.MOST_PATIENCE_S


@pytest.mark.parametrize(("cpu_s", "parallel"), [(2.0, True), (1.0, False)])
def test_threads_that_meet_late_are_named_where_an_operation_uses_several(
    monkeypatch, cpu_s, parallel
):
    monkeypatch.setattr(disturbance, "others_s", lambda: 0.0)
    now, cpu = disturbance.time.perf_counter(), disturbance.time.process_time()
    sticks = disturbance.Yardsticks(scripted_yardstick(), scripted_yardstick(1.9, 1.9, 1.9))
    watch = disturbance.Watch(sticks, started=now - 1000, cpu_started=cpu - 1000 * cpu_s)
    assert watch.look(1e-6) is not parallel
    assert watch.parallel is parallel
    assert watch.look(20e-3)  # so long a call gets its data from memory anyway
    watch.look(1e-6)
    faults = watch.signs([1e-3] * 8, 1, calm=False).faults
    assert any("threads took 1.9 times as long to meet" in fault for fault in faults) is parallel


@pytest.mark.parametrize(("meets", "told"), [(40.0, True), (1.0, False)])
def test_threads_that_sleep_or_are_starved_are_seen_too(monkeypatch, meets, told):
    """They use little CPU time, so that the warm-up shows an operation of one thread."""
    at = [0.0, 0.0, 0.0]  # the wall, the CPU of all threads, and that of the main thread
    monkeypatch.setattr(disturbance.time, "perf_counter", lambda: at[0])
    monkeypatch.setattr(disturbance.time, "process_time", lambda: at[1])
    monkeypatch.setattr(disturbance.time, "thread_time", lambda: at[2])
    sticks = disturbance.Yardsticks(scripted_yardstick(), scripted_yardstick(*[meets] * 90))
    watch = disturbance.Watch(sticks, started=0.0, cpu_started=0.0)
    at[:] = [0.010, 0.0095, 0.009]
    assert watch.look(1e-6)
    assert not watch.parallel
    at[:] = [0.020, 0.0190, 0.018]
    assert watch.look(1e-6) is not told
    assert watch.parallel
    assert watch.late
    faults = watch.signs([1e-3] * 8, 1, calm=not told).faults
    assert not any("slowest of the cores" in fault for fault in faults)
    assert any("threads took 40 times as long to meet" in fault for fault in faults) is told


@pytest.mark.parametrize(("pace", "told"), [(1.25, True), (1.02, False)])
def test_a_slow_core_among_others_is_named(pace, told):
    """The main thread's is at its best, and the threads meet in time."""
    pace = scripted_yardstick(*[pace] * 3)
    sticks = disturbance.Yardsticks(scripted_yardstick(), scripted_yardstick(), pace)
    watch = disturbance.Watch(sticks, parallel=True)
    assert watch.look(1e-6) is not told
    faults = watch.signs([1e-3] * 8, 1, calm=not told).faults
    assert any("slowest of the cores in use ran 1.2 times" in fault for fault in faults) is told


def test_an_operation_of_one_thread_stays_one(monkeypatch):
    at = [0.0, 0.0]
    monkeypatch.setattr(disturbance.time, "perf_counter", lambda: at[0])
    monkeypatch.setattr(disturbance.time, "process_time", lambda: at[1])
    monkeypatch.setattr(disturbance.time, "thread_time", lambda: min(at[0], 0.010))
    sticks = disturbance.Yardsticks(scripted_yardstick(), scripted_yardstick(9.0))
    watch = disturbance.Watch(sticks, started=0.0, cpu_started=0.0)
    at[:] = [0.010, 0.013]  # threads of an earlier operation spun on
    assert watch.look(1e-6)
    monkeypatch.setattr(disturbance.time, "thread_time", lambda: at[1] - 0.003)
    at[:] = [0.090, 0.093]
    assert watch.look(1e-6)
    assert not watch.parallel


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


def test_the_best_of_a_day_is_known_to_the_next_process():
    first = disturbance.Yardsticks(disturbance.Yardstick(lambda: None), disturbance.Yardstick(int))
    first.core.best_s, first.team.best_s = 8e-6, 2e-6
    first.teach("this machine")
    slow = disturbance.Yardsticks(disturbance.Yardstick(lambda: None), disturbance.Yardstick(int))
    slow.core.best_s, slow.team.best_s = 16e-6, 1e-6
    slow.learn("this machine")
    assert (slow.core.best_s, slow.team.best_s) == (8e-6, 1e-6)
    slow.teach("this machine")
    assert calibration.known("this machine") == {disturbance.CORE: 8e-6, disturbance.TEAM: 1e-6}
    assert disturbance.PACE not in calibration.known("this machine")
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


@pytest.mark.parametrize("text", ["", "[1]", '{"here": 3}', '{"here": {"stored": "x"}}', "{"])
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
