"""Disturbance: what is seen in rounds and counters, and the attempts that follow."""

import itertools
import os
import random

import pytest
import torch

from bench.measure import calibration, devices, disturbance, kernels, placement, rounds
from bench.measure.answer import Answer, WrongAnswer
from bench.measure.cell import Cell, Disturbed, Result
from bench.report import reasons


def noise(count, level=1e-3, spread=0.01, seed=3):
    source = random.Random(seed)
    return [level * source.lognormvariate(0, spread) for _ in range(count)]


def codes(judged):
    return [one.code for one in judged.found]


DISTURBED = disturbance.Disturbances(2.0, 0.1, (disturbance.Disturbance("drift", {"times": 1.1}),))


@pytest.mark.parametrize("spread", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("count", [8, 20, 100])
def test_quiet_rounds_have_no_fault(count, spread):
    hits = sum(
        bool(disturbance.judge(noise(count, spread=spread, seed=s), 10, 3, 0.1).found)
        for s in range(100)
    )
    assert hits <= (2 if spread < 0.05 else 10)


def test_two_levels_are_named():
    mixed = noise(20, 6e-6) + noise(10, 16e-3)
    random.Random(1).shuffle(mixed)
    (found,) = disturbance.judge(mixed, 1, 0, 0.1).found
    assert found.code == "two_levels"
    assert found.figures == pytest.approx({"low_s": 6e-6, "high_s": 16e-3}, rel=0.02)


def test_a_few_outliers_are_no_level():
    assert disturbance.levels(noise(30) + noise(2, 20e-3)) is None


def test_drift_is_seen():
    warming = [1e-3 * (1 + i / 40) for i in range(30)]
    judged = disturbance.judge(warming, 1, 0, 0.1)
    assert judged.drift == pytest.approx(24.5 / 40 / 1.1125 - 4.5 / 40 / 1.1125, abs=0.02)
    assert codes(judged) == ["drift"]
    assert judged.found[0].figures == {"times": 1 + judged.drift}
    assert disturbance.drift([1.0] * 5) is None


def test_switches_and_a_slow_cpu_are_seen():
    slow = disturbance.Disturbance("slow_core", {"times": 1.8})
    judged = disturbance.judge(noise(20, 16e-3), 1, 100, 0.32, [slow])
    assert judged.involuntary_switches == 5
    switches = disturbance.Disturbance("switches", {"rate": 100 / 0.32, "per_call": 5})
    assert judged.found == (switches, slow)
    assert disturbance.judge(noise(20), 1, None, 0.1).involuntary_switches is None


def disturbed_suite(suite, quiet_after):
    """A benchmark whose rounds are judged disturbed until the given attempt."""
    suite.write(f"""
    from bench.measure import disturbance
    judge, seen = disturbance.judge, []

    @dtypes("float32")
    def bench_neg(cell):
        seen.append(1)
        if len(seen) < {quiet_after}:
            found = (disturbance.Disturbance("drift", {{"times": 1.1}}),)
            judged = disturbance.Disturbances(2.0, 0.1, found)
        else:
            judged = disturbance.Disturbances(0.0, 0.0)
        disturbance.judge = lambda *_: judged
        try:
            cell(torch.neg, cell.tensor(4))
        finally:
            disturbance.judge = judge

    @dtypes("float32")
    def bench_other(cell):
        disturbance.judge = lambda *_: disturbance.Disturbances(0.0, 0.0)
        try:
            cell(torch.neg, cell.tensor(4))
        finally:
            disturbance.judge = judge
    """)
    return suite.run("--benchmark-max-time=0.001", "--benchmark-json=out.json")


def test_a_disturbed_cell_is_measured_again_later(suite):
    result = disturbed_suite(suite, quiet_after=2)
    assert result.ret == 0
    rows = suite.rows()
    assert list(rows.benchmark) == ["other", "neg"]
    assert list(rows.status) == ["ok", "ok"]
    result.stdout.fnmatch_lines(["*2 passed, 1 measured again*"])


def test_a_cell_that_never_settles_is_unstable_and_says_why(suite):
    result = disturbed_suite(suite, quiet_after=99)
    assert result.ret == 0
    row = suite.rows().set_index("benchmark").loc["neg"]
    assert (row.status, row.reason) == ("unstable", reasons.disturbances(DISTURBED.found))
    assert row.involuntary_switches == 2
    assert row.median_s > 0
    result.stdout.fnmatch_lines(["*neg*unstable*", "*2 passed, 2 measured again*"])


def test_the_first_call_of_a_cell_is_that_of_its_first_attempt(monkeypatch):
    monkeypatch.setattr(disturbance, "judge", lambda *_: disturbance.Disturbances(0.0, 0.0))
    before = Result(first_call_s=3.0, timing=rounds.Timing((5e-3,) * 8, 1))
    plan = rounds.Plan(8, 0.01, 0.001)
    cell = Cell(devices.find("cpu"), torch.float32, plan, earlier=[before])
    cell(torch.neg, cell.tensor(4))
    assert cell.result is not before
    assert cell.result.first_call_s == 3.0


def test_of_disturbed_attempts_the_least_disturbed_stands(monkeypatch):
    times = iter([3e-3, 1e-3, 2e-3])
    monkeypatch.setattr(rounds, "measure", lambda *_, **__: rounds.Timing((next(times),) * 8, 1))
    monkeypatch.setattr(disturbance, "judge", lambda *_: DISTURBED)
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
    assert simulated.device().synchronize_waits(simulated.device().long_work)
    device = devices.Device(
        "sim",
        simulated.device().torch_device,
        lambda: None,
        simulated.now,
        launcher=simulated.long_work,
    )
    assert not device.synchronize_waits(device.long_work)
    devices.register(device)
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    result = suite.run("--device", "sim")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --device sim: synchronisation does not wait*"])
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
    assert (
        row.reason == "not repeatable: a call after the rounds gives other bits than the first call"
    )


def test_a_very_slow_operation_ends_at_the_limit():
    plan = rounds.Plan(20, 0.5, 0.001, limit_s=20)
    calls = itertools.count()

    def loop(count):
        next(calls)
        return 27.0 * count

    assert len(rounds.measure(loop, plan).rounds_s) == 1
    assert next(calls) == 2


class Machine:
    """Quiet or not, check by check."""

    def __init__(self, checks):
        self.checks, self.quiet, self.seen, self.late = checks, True, [], False

    def check(self, _):
        self.quiet = next(self.checks)
        self.seen.append(self.quiet)
        return self.quiet

    begin = settle = check


def test_a_round_that_ended_in_a_disturbance_does_not_count_once_that_has_passed():
    class Passing(Machine):
        def begin(self, _):
            return True

        settle = begin

    machine = Passing(itertools.cycle([True, False, True]))
    plan = rounds.Plan(8, 0.05, 0.001, precision=0)
    timing = rounds.measure(lambda count: count * 1e-3, plan, 0, machine)
    assert timing.quiet
    assert len(timing.rounds_s) == machine.seen.count(True) < len(machine.seen)


def test_only_rounds_between_quiet_moments_count():
    """The machine is busy at every fifth check, and rounds then take twice as long."""
    plan = rounds.Plan(8, 0.05, 0.001, precision=0)
    machine = Machine(itertools.cycle([True, True, True, True, False]))
    timing = rounds.measure(
        lambda count: count * (1e-3 if machine.quiet else 2e-3), plan, 0, machine
    )
    assert timing.quiet
    assert set(timing.rounds_s) == {1e-3}
    busy = rounds.measure(lambda count: count * 2e-3, plan, 0, Machine(itertools.repeat(False)))
    assert not busy.quiet
    assert len(busy.rounds_s) >= plan.min_rounds


def test_rounds_before_a_late_discovery_do_not_count():
    """The checks around them did not include the threads."""

    class Late(Machine):
        def check(self, _):
            self.late = len(self.seen) >= 3
            return super().check(_)

        begin = settle = Machine.check

    machine = Late(itertools.repeat(True))
    plan = rounds.Plan(8, 0.05, 0.001, precision=0)
    seconds = itertools.chain([9e-3] * 6, itertools.repeat(1e-3))
    timing = rounds.measure(lambda count: count * next(seconds), plan, 0, machine)
    assert timing.quiet
    assert 9e-3 not in timing.rounds_s


def test_what_was_wrong_once_is_not_asked_again(monkeypatch):
    """The next answer may be right by chance."""
    monkeypatch.setattr(disturbance, "judge", lambda *_: DISTURBED)
    plan = rounds.Plan(8, 0.01, 0.001)
    cell = Cell(devices.find("cpu"), torch.float32, plan, may_repeat=True)
    with pytest.raises(WrongAnswer):
        cell(torch.neg, cell.tensor(4), against=torch.abs)
    assert cell.result.timing
    assert cell.result.answer.fault


def test_threads_of_the_host_are_no_part_of_another_device(simulated):
    reference = scripted("synchronisation", *[9.0] * 999)
    plan = rounds.Plan(8, 0.01, 0.001)
    seen = []
    init = disturbance.DisturbanceMonitor.__init__

    def noted(self, reference, *more):
        seen.append(reference)
        init(self, reference, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disturbance.DisturbanceMonitor, "__init__", noted)
        one = Cell(simulated.device(), torch.float32, plan, reference=reference)
        one(simulated.launch, 1e-4, check=lambda *_: Answer())
        cpu = Cell(devices.find("cpu"), torch.float32, plan, reference=reference)
        cpu(torch.neg, cpu.tensor(4))
    assert [kernel.name for kernel in seen[0]] == ["core"]
    assert seen[0].budget is reference.budget
    assert seen[1] is reference


def scripted(name="core", *readings, budget_s=0.0, alone=False):
    """All kernels, of which `name` takes the given multiples of its best, then its best.

    The limits are those of the suite. With `alone` there are none for several threads.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 1 if alone else 2)
        made = kernels.all_kernels()
    script = itertools.chain(readings, itertools.repeat(1.0))
    for kernel in made:
        kernel.read = (lambda: next(script)) if kernel.name == name else lambda: 1.0
    return kernels.ReferenceKernels(made, kernels.WaitBudget(budget_s))


@pytest.mark.real_machine
def test_a_reading_is_relative_to_the_best(monkeypatch):
    kernel = kernels.ReferenceKernel("core", lambda: lambda: None, 1.2, "slow_core")
    now = itertools.accumulate(itertools.chain([0.0], itertools.cycle([20e-6, 1e-6])))
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: next(now))
    kernel.best_s = 10e-6
    assert kernel.read() == pytest.approx(2)
    kernel.best_s = 50e-6
    assert kernel.read() == pytest.approx(1)
    assert kernel.best_s == pytest.approx(20e-6)


def test_a_slow_core_is_named():
    monitor = disturbance.DisturbanceMonitor(scripted("core", 2.0, alone=True))
    assert not monitor.check(1e-6)
    slow = disturbance.Disturbance("slow_core", {"times": 2.0})
    assert monitor.judge([1e-3] * 8, 1, quiet=False).found == (slow,)
    assert monitor.judge([1e-3] * 8, 1, quiet=True).found == ()


def test_a_core_that_is_slow_too_often_is_named_at_its_limit():
    monitor = disturbance.DisturbanceMonitor(scripted("core", 1.5, alone=True))
    assert [monitor.check(1e-6) for _ in range(4)] == [False, True, True, True]
    slow = disturbance.Disturbance("slow_core", {"times": 1.2})
    assert monitor.judge([1e-3] * 8, 1, quiet=False).found == (slow,)


def test_a_run_waits_for_a_disturbance_to_pass_while_its_budget_lasts(monkeypatch):
    slept = []
    monkeypatch.setattr(kernels.time, "sleep", slept.append)
    reference = scripted("core", 2.0, 2.0, 1.0, *[2.0] * 5, budget_s=0.09, alone=True)
    monitor = disturbance.DisturbanceMonitor(reference, waits=True)
    assert monitor.settle(1e-6)
    assert slept == [kernels.PAUSE_S] * 2
    assert not monitor.settle(1e-6)
    assert len(slept) == 5
    assert monitor.waited_s == pytest.approx(5 * kernels.PAUSE_S)


def test_a_first_attempt_does_not_wait_and_a_repeat_without_a_quiet_moment_ends(monkeypatch):
    monkeypatch.setattr(kernels.time, "sleep", lambda _: pytest.fail("waited"))
    reference = scripted("core", *[2.0] * 9, budget_s=9.0)
    assert not disturbance.DisturbanceMonitor(reference).begin(1e-6)
    monitor = disturbance.DisturbanceMonitor(scripted("core", *[2.0] * 9), waits=True, repeat=True)
    with pytest.raises(disturbance.NoQuietMoment):
        monitor.begin(1e-6)


def test_a_repeat_without_a_quiet_moment_keeps_the_earlier_attempt():
    before = Result(timing=rounds.Timing((5e-3,) * 8, 1), disturbances=DISTURBED)
    reference = scripted("core", *[2.0] * 9, alone=True)
    plan = rounds.Plan(8, 0.01, 0.001)
    device = devices.find("cpu")
    cell = Cell(device, torch.float32, plan, reference=reference, earlier=[before], may_repeat=True)
    cell(torch.neg, cell.tensor(4))
    assert cell.result is before


def test_the_wait_budget_grows_with_the_cells_between_two_bounds():
    assert kernels.WaitBudget.of(1).left_s == kernels.MIN_WAIT_S
    assert kernels.WaitBudget.of(40).left_s == 40 * kernels.WAIT_PER_CELL_S
    assert kernels.WaitBudget.of(10_000).left_s == kernels.MAX_WAIT_S


@pytest.mark.parametrize(("cpu_s", "parallel"), [(2.0, True), (1.0, False)])
def test_slow_synchronisation_is_named_if_an_operation_uses_several_threads(
    monkeypatch, cpu_s, parallel
):
    monkeypatch.setattr(disturbance, "other_threads_s", lambda: 0.0)
    now, cpu = disturbance.time.perf_counter(), disturbance.time.process_time()
    reference = scripted("synchronisation", 1.9, 1.9, 1.9)
    monitor = disturbance.DisturbanceMonitor(
        reference, started=now - 1000, cpu_started=cpu - 1000 * cpu_s
    )
    assert monitor.check(1e-6) is not parallel
    assert monitor.parallel is parallel
    assert monitor.check(20e-3)  # such a long call reads its data from memory in any case
    monitor.check(1e-6)
    slow = disturbance.Disturbance("slow_synchronisation", {"times": pytest.approx(1.9)})
    assert (slow in monitor.judge([1e-3] * 8, 1, quiet=False).found) is parallel


@pytest.mark.parametrize(("times", "slow"), [(40.0, True), (1.0, False)])
def test_threads_that_sleep_or_cannot_run_are_seen_too(monkeypatch, times, slow):
    """They use little CPU time, so that the warm-up shows an operation of one thread."""
    at = [0.0, 0.0, 0.0]  # the wall, the CPU of all threads, and that of the main thread
    monkeypatch.setattr(disturbance.time, "perf_counter", lambda: at[0])
    monkeypatch.setattr(disturbance.time, "process_time", lambda: at[1])
    monkeypatch.setattr(disturbance.time, "thread_time", lambda: at[2])
    reference = scripted("synchronisation", *[times] * 90)
    monitor = disturbance.DisturbanceMonitor(reference, started=0.0, cpu_started=0.0)
    at[:] = [0.010, 0.0095, 0.009]
    assert monitor.check(1e-6)
    assert not monitor.parallel
    at[:] = [0.020, 0.0190, 0.018]
    assert monitor.check(1e-6) is not slow
    assert monitor.parallel
    assert monitor.late
    found = [disturbance.Disturbance("slow_synchronisation", {"times": 40.0})] if slow else []
    assert list(monitor.judge([1e-3] * 8, 1, quiet=not slow).found) == found


@pytest.mark.parametrize(("times", "slow"), [(1.25, True), (1.02, False)])
def test_a_slow_core_among_others_is_named(times, slow):
    """The core of the main thread is at its best, and the threads synchronise in time."""
    monitor = disturbance.DisturbanceMonitor(scripted("throughput", *[times] * 3), parallel=True)
    assert monitor.check(1e-6) is not slow
    found = [disturbance.Disturbance("slow_throughput", {"times": times})] if slow else []
    assert list(monitor.judge([1e-3] * 8, 1, quiet=not slow).found) == found


def test_an_operation_of_one_thread_stays_one(monkeypatch):
    at = [0.0, 0.0]
    monkeypatch.setattr(disturbance.time, "perf_counter", lambda: at[0])
    monkeypatch.setattr(disturbance.time, "process_time", lambda: at[1])
    monkeypatch.setattr(disturbance.time, "thread_time", lambda: min(at[0], 0.010))
    reference = scripted("synchronisation", 9.0)
    monitor = disturbance.DisturbanceMonitor(reference, started=0.0, cpu_started=0.0)
    at[:] = [0.010, 0.013]  # threads of an earlier operation spun on
    assert monitor.check(1e-6)
    monkeypatch.setattr(disturbance.time, "thread_time", lambda: at[1] - 0.003)
    at[:] = [0.090, 0.093]
    assert monitor.check(1e-6)
    assert not monitor.parallel


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
    first, slow = scripted(), scripted()
    for made, times in ((first, [8e-6, 2e-6, 9e-6]), (slow, [16e-6, 1e-6, 9e-6])):
        for kernel, best_s in zip(made, times, strict=True):
            kernel.best_s = best_s
    first.store("this machine")
    slow.load("this machine")
    assert [kernel.best_s for kernel in slow] == [8e-6, 1e-6, 9e-6]
    slow.store("this machine")
    bests = {"core": 8e-6, "synchronisation": 1e-6, "throughput": 9e-6}
    assert calibration.known("this machine") == bests
    assert calibration.known("another") == {}


def test_without_a_kernel_for_several_threads_nobody_looks_for_them(monkeypatch):
    """Threads of an accelerator's driver make no round look as if its checks were incomplete."""
    monkeypatch.setattr(disturbance.time, "process_time", lambda: pytest.fail("looked"))
    reference = scripted("core", 1.0).of_threads(several=False)
    monitor = disturbance.DisturbanceMonitor(reference, cpu_started=0.0)
    assert all(monitor.check(1e-6) for _ in range(3))
    assert not monitor.late


def test_a_new_kernel_is_one_entry():
    """The monitor, the judgement and the cache know it by its entry alone."""
    new = kernels.ReferenceKernel("memory", lambda: lambda: None, 1.3, "slow_memory")
    new.read = lambda: 1.5
    new.best_s = 5e-6
    reference = kernels.ReferenceKernels([*scripted(alone=True), new])
    monitor = disturbance.DisturbanceMonitor(reference)
    assert not monitor.check(1e-6)
    slow = disturbance.Disturbance("slow_memory", {"times": 1.5})
    assert monitor.judge([1e-3] * 8, 1, quiet=False).found == (slow,)
    reference.store("here")
    assert calibration.known("here")["memory"] == 5e-6


def test_each_disturbance_of_a_kernel_has_words():
    assert {kernel.code for kernel in scripted()} <= set(reasons.WORDS)


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
