"""`bench doctor`: what is looked at, how it is judged, and the exit status."""

import itertools
import random
import re
import types

import pytest

from bench.cli import main
from bench.gate import power
from bench.measure import doctor, environment, kernels, placement
from bench.records.schema import CellKey
from bench.report import doctor as words
from tests.helpers.command import run_bench
from tests.helpers.frames import frame

BASE_CELL = ("tensors", "cat", "cpu", "float32")


def test_the_clock_of_this_machine_has_a_tick_and_a_cost():
    finding = doctor.clock()
    assert 0 < finding.figures["tick_s"] < 1e-3
    assert finding.figures["reading_s"] >= 0


def test_a_coarse_clock_is_unfit(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(ticks) // 10 * 0.0156)
    assert not doctor.clock().fit


def machine(monkeypatch, used, steal=0.0, names=(), cpus=2, count=2):
    monkeypatch.setattr(doctor, "_used", lambda seconds: (used, steal, list(names)))
    monkeypatch.setattr(environment, "cpu_count", lambda: cpus)
    current = types.SimpleNamespace(threads=count)
    monkeypatch.setattr(environment, "current", lambda: current)
    return doctor.neighbours()


@pytest.mark.parametrize(
    ("seen", "fit", "advice"),
    [
        ({"used": 0.02}, True, False),
        ({"used": 1.0, "names": [("python", 7, 100.0)]}, False, True),
        ({"used": 1.0, "cpus": 16, "count": 8}, True, True),
        ({"used": 9.0, "cpus": 16, "count": 8}, False, True),
        ({"used": 0.0, "steal": 0.2}, False, True),
    ],
)
def test_neighbours_are_unfit_where_they_need_the_cores_of_the_threads(
    monkeypatch, seen, fit, advice
):
    finding = machine(monkeypatch, **seen)
    assert finding.fit is fit
    assert bool(finding.remedies) is advice
    assert finding.figures["busiest"] == seen.get("names", [])


def test_what_others_use_is_read_from_the_system():
    used, steal, names = doctor._used(0.05)
    assert used >= 0
    assert 0 <= steal <= 1
    assert len(names) <= 3


@pytest.mark.parametrize(("slow", "fit"), [(1.0, True), (2.0, False)])
def test_steadiness_counts_the_slow_readings(monkeypatch, slow, fit):
    monkeypatch.setattr(kernels.ReferenceKernel, "read", lambda self: slow * 1e-6)
    kernel = kernels.ReferenceKernel("core", lambda: None, 1.3, "slow_core", best_s=1e-6)
    finding = doctor.steadiness(kernel, seconds=0.02)
    assert finding.fit is fit
    assert finding.figures["slow"] == (not fit)


def test_a_battery_and_a_power_mode_are_reported(monkeypatch):
    battery = types.SimpleNamespace(percent=42.0, power_plugged=False)
    monkeypatch.setattr(doctor.psutil, "sensors_battery", lambda: battery, raising=False)
    monkeypatch.setattr(doctor, "_read", lambda path: "powersave" if "governor" in path else "x")
    finding = doctor.power()
    assert not finding.fit
    assert finding.figures["battery"] == 42
    assert finding.remedies == ("plug in", "governor")


def test_little_memory_is_unfit(monkeypatch):
    memory = types.SimpleNamespace(available=2**30, total=2**34)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: memory)
    assert not doctor.memory().fit


def timed(faults=(), **medians):
    """Two or more processes, each with a median per operation."""
    rows = zip(*medians.values(), strict=True)
    return [
        {name: {"median_s": s, "faults": faults} for name, s in zip(medians, row, strict=True)}
        for row in rows
    ]


def test_noise_is_judged_by_the_median_operation():
    quiet = timed(a=[1.0, 1.02], b=[1.0, 1.03], c=[1.0, 1.9])
    finding = doctor.noise("cpu", quiet)
    assert finding.fit
    assert finding.figures["middle"] == pytest.approx(1.03)
    assert (finding.figures["worst"], finding.figures["kernel"]) == (1.9, "c")
    finding = doctor.noise("cpu", timed(a=[1.0, 1.2], b=[1.0, 1.3], c=[1.0, 1.01]))
    assert not finding.fit
    assert finding.remedies == ("fix above and repeat",)
    assert " 20 %" in words.remedy(finding.remedies, finding.figures)
    assert not doctor.noise("cpu", [*quiet, *timed(["slow_core"], a=[1.0] * 7)]).fit


def test_a_process_that_fails_is_a_finding(monkeypatch):
    done = types.SimpleNamespace(returncode=1, stdout="", stderr="x\nNo module named y\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(doctor.ProbeFailed, match="on cpu failed: No module named y"):
        doctor.fresh_runs("cpu", 2, lambda line: None)
    monkeypatch.setattr(doctor, "examine", lambda names: iter(()))
    done = run_bench("doctor", "--device", "cpu")
    assert done.exit_code == 3
    assert "unfit  noise cpu" in done.output


def test_more_threads_than_cpus_are_unfit(monkeypatch):
    monkeypatch.setattr(environment, "cpu_count", lambda: 2)
    monkeypatch.setattr(environment, "current", lambda: types.SimpleNamespace(threads=8))
    found = doctor.thread_placement(placement.Placement())
    assert (found.code, found.fit) == ("too many threads", False)


@pytest.mark.parametrize(("fit", "code"), [(True, 0), (False, 3)])
def test_doctor_prints_each_finding_and_exits_by_the_verdict(monkeypatch, fit, code):
    findings = [
        doctor.Finding("clock", "clock", {"tick_s": 4e-8, "reading_s": 5e-8}),
        doctor.Finding("threads", "threads of system", {"threads": 2}, ("fewer threads",), fit),
    ]
    monkeypatch.setattr(doctor, "examine", lambda *_: iter(findings))
    done = run_bench("doctor", "--device", "cpu", "--processes", "0")
    assert done.exit_code == code
    assert "ok     clock" in done.output
    assert f"{'note' if fit else 'unfit':6} threads" in done.output
    assert f"-> {words.REMEDIES['fewer threads']}" in done.output
    assert f"This machine is {'fit' if fit else 'unfit: 1 of the above'}." in done.output


def test_doctor_refuses_an_unknown_device():
    done = run_bench("doctor", "--device", "tpu")
    assert done.exit_code == 2
    assert "'tpu' is no device of this machine" in done.output


@pytest.mark.integration
def test_doctor_looks_at_this_machine():
    names = [finding.name for finding in doctor.examine(["cpu"])]
    wanted = [
        "clock",
        "memory",
        "power",
        "neighbours",
        "core",
        "bandwidth",
        "threads",
        "device cpu",
    ]
    several = ("synchronisation", "throughput")  # if there are several threads
    assert [name for name in names if name not in several] == wanted


def results(noise, count=12, faults=()):
    """The results of `count` processes for twelve kernels with this noise."""
    source = random.Random(3)

    def result(number):
        seconds = 1e-4 * (1 + number) * source.lognormvariate(0, noise)
        return {"min_s": seconds, "median_s": seconds, "faults": list(faults), "spent_s": 0.1}

    return [{f"kernel {n}": result(n) for n in range(12)} for _ in range(count)]


def test_noise_is_judged_over_processes():
    finding = doctor.noise("cpu", results(0.01))
    assert finding.fit
    assert finding.figures["kernels"] == 12
    assert not doctor.noise("cpu", results(0.01, faults=["slow"])).fit


@pytest.mark.integration
@pytest.mark.parametrize(("noise", "remedy"), [(0.005, ""), (0.03, "bench run --runs 8")])
def test_doctor_says_what_the_gate_would_find_here(monkeypatch, noise, remedy):
    monkeypatch.setattr(doctor, "examine", lambda names: iter(()))
    monkeypatch.setattr(doctor, "fresh_runs", lambda name, count, report: results(noise, count))
    done = run_bench("doctor", "--device", "cpu", "--gate")
    assert "gate cpu" in done.output
    assert re.search(r"5 runs per side: false alarms in [01]\.\d% of 200 suites", done.output)
    assert remedy in done.output
    assert ("+10% in 100%" in done.output) == (noise < 0.01)


def stored_runs(count, noise=0.001):
    """Rows of so many runs of twelve cells, and an older run of another torch."""
    source = random.Random(5)
    cells = [{"run_id": f"r{run}", "params": f"n={n}"} for run in range(count) for n in range(12)]
    rows = [each | {"min_s": 1e-3 * source.lognormvariate(0, noise)} for each in cells]
    old = {"run_id": "old", "run_started": "2025-01-01T00:00:00Z", "torch": "2.10.0"}
    return frame(*rows, old | {"params": "n=0"})


def test_the_newest_stored_runs_that_are_alike_count():
    found = power.stored(stored_runs(10), "cpu")
    assert (found.runs, len(found.times)) == (10, 12)
    assert power.stored(stored_runs(10), "mps") == power.Stored()
    rows = stored_runs(10)
    rows.loc[rows.index[:6], "status"] = "unstable"
    assert None in power.stored(rows, "cpu").times[CellKey(*BASE_CELL, "n=0")]


@pytest.mark.parametrize(
    ("count", "message"),
    [(10, "from 10 stored runs of 12 cells"), (9, "9 stored runs with the newest")],
)
def test_doctor_takes_stored_runs_for_the_gate_and_says_if_they_are_too_few(
    monkeypatch, count, message
):
    monkeypatch.setattr(power, "STORED_SUITES", 2)
    monkeypatch.setattr(power, "of_processes", lambda *_: power.of_gate(kernels_of(10), 5, 2))
    monkeypatch.setattr(doctor, "examine", lambda names: iter(()))
    monkeypatch.setattr(doctor, "fresh_runs", lambda name, count, report: results(0.001, count))
    monkeypatch.setattr(main, "rows", lambda files: stored_runs(count))
    done = run_bench("doctor", "--device", "cpu", "--gate")
    shown = " ".join(done.output.split())
    assert message in shown
    assert "+20% in 100% of them" in shown


def kernels_of(count):
    return {
        CellKey("", "", "cpu", "float32", str(n)): [-7.0 + 1e-4 * (n % 3)] * count
        for n in range(12)
    }


def test_doctor_needs_processes_enough_for_two_sides():
    words = ["doctor", "--device", "cpu", "--gate", "--processes", "6"]
    done = run_bench(*words)
    assert done.exit_code == 2
    assert "--gate needs 10 or more" in done.output


def test_a_clock_that_cannot_be_read_is_left_out(monkeypatch):
    """As psutil raises on some Macs."""

    def raises():
        raise RuntimeError("'pmgr' entry was not found")

    monkeypatch.setattr(doctor.psutil, "cpu_freq", raises, raising=False)
    assert "mhz" not in doctor.power().figures
