"""What the process may use of the machine: affinity, quotas, and threads bound by the user."""

import os
import subprocess
import sys

import pytest
import torch

from bench.measure import cgroup, doctor, environment
from bench.measure.cgroup import Limits, Throttling


@pytest.fixture
def container(monkeypatch):
    """Let this process find itself in a container with these limits."""

    def limit(cpus=None, memory_bytes=None):
        monkeypatch.setattr(cgroup, "limits", lambda: Limits(cpus, memory_bytes))

    return limit


X86 = """processor\t: 0
cpu family\t: 25
model\t\t: {model}
model name\t: {name}
stepping\t: 1
flags\t\t: fpu vme

"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: {part}

"""


@pytest.mark.parametrize("name", ["AMD EPYC", "Intel(R) Xeon(R) CPU @ 2.20GHz"])
def test_cpus_whose_model_the_hypervisor_hides_have_names_of_their_own(name):
    """One of them took 50 times as long for bfloat16 as the other."""
    old, new = (environment.cpu_of(2 * X86.format(name=name, model=n)) for n in (1, 17))
    assert old == f"{name} 25-1-1"
    assert new == f"{name} 25-17-1"


@pytest.mark.parametrize("name", ["AMD Ryzen 7 5800X", "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz"])
def test_a_cpu_whose_name_has_its_model_has_this_name(name):
    assert environment.cpu_of(X86.format(name=name, model=1)) == name


def test_cpus_of_arm_have_numbers_only(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    found = {environment.cpu_of(ARM.format(part=part)) for part in ("0xd40", "0xd4f")}
    assert found == {"aarch64 0x41-0xd40-0x1", "aarch64 0x41-0xd4f-0x1"}
    assert environment.cpu_of("processor : 0\n") == ""


@pytest.mark.parametrize(("quota", "cpus"), [(0.3, 1), (1.5, 2), (64.0, 8), (None, 8)])
def test_a_quota_counts_as_cpus(container, monkeypatch, quota, cpus):
    monkeypatch.setattr(environment, "CPUS_AT_START", frozenset(range(8)))
    container(quota)
    assert environment.cpu_count() == cpus


def test_a_memory_limit_counts_as_memory(container):
    container(memory_bytes=2**30)
    assert environment.memory_bytes() == 2**30
    container()
    assert environment.memory_bytes() > 2**30


def test_no_more_threads_than_the_quota_pays_unless_asked_for(container, monkeypatch):
    used = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    container(1.5)
    environment.set_threads()
    environment.set_threads(4)
    container()
    environment.set_threads()
    assert used == [2, 4]


def test_doctor_names_the_quota(container, monkeypatch):
    container()
    assert doctor.container() is None
    monkeypatch.setattr(doctor, "QUOTA_S", 0.0)
    looks = iter([Throttling(10, 0, 0.0), Throttling(15, 5, 0.35)])
    monkeypatch.setattr(cgroup, "throttling", lambda: next(looks))
    container(0.3, 2**30)
    found = doctor.container()
    assert found is not None
    assert not found.fit
    figures = {"cpus": 0.3, "memory_bytes": 2**30, "stopped": 5, "periods": 5}
    assert found.figures == figures


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity here")
def test_threads_bound_by_the_user_do_not_hide_cpus_from_the_row_or_workers():
    """With OMP_PROC_BIND, importing torch binds the main thread to one CPU."""
    code = (
        "import os; before = os.sched_getaffinity(0)\n"
        "from bench.measure import environment, placement\n"
        "assert environment.cpu_count() == len(before)\n"
        "bound = os.sched_getaffinity(0)\n"
        "with placement.place().unpinned():\n"
        "    assert os.sched_getaffinity(0) == before\n"
        "assert os.sched_getaffinity(0) == bound\n"
    )
    env = {**os.environ, "OMP_PROC_BIND": "close"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
