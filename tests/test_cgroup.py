"""Limits of containers, read from files as the kernel writes them."""

import pytest

from bench.measure import cgroup
from bench.measure.cgroup import Limits, Throttling

CPU_STAT_1 = "nr_periods 1049\nnr_throttled 1038\nthrottled_time 72600000000\n"
CPU_STAT_2 = (
    "usage_usec 9\nuser_usec 8\nsystem_usec 1\n"
    "nr_periods 1049\nnr_throttled 1038\nthrottled_usec 72600000\n"
)


class Host:
    """A /proc/self and mounted hierarchies in a folder."""

    def __init__(self, folder):
        self.folder, self.memberships, self.mounts = folder, [], []
        (folder / "proc").mkdir()

    def mount(self, name, version, controllers="", root="/", path="/"):
        top = self.folder / name
        top.mkdir(exist_ok=True)
        shown = str(top).replace(" ", "\\040")
        kind = "cgroup2" if version == 2 else "cgroup"
        options = "rw" if version == 2 else f"rw,{controllers}"
        self.mounts.append(
            f"31 23 0:28 {root} {shown} rw,relatime shared:9 - {kind} {kind} {options}"
        )
        self.memberships.append(f"{0 if version == 2 else 4}:{controllers}:{path}")
        (self.folder / "proc" / "cgroup").write_text("\n".join(self.memberships) + "\n")
        (self.folder / "proc" / "mountinfo").write_text("\n".join(self.mounts) + "\n")
        return top

    @property
    def proc(self):
        return self.folder / "proc"


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_version_1_quota_memory_and_throttling(host):
    cpu = host.mount("cpu", 1, "cpu,cpuacct", path="/docker/abc")
    memory = host.mount("memory", 1, "memory", path="/docker/abc")
    write(cpu, cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    write(cpu / "docker/abc", cpu__cfs_quota_us=30000, cpu__cfs_period_us=100000)
    write(cpu / "docker/abc", cpu__stat=CPU_STAT_1)
    write(memory, memory__limit_in_bytes=9223372036854771712)
    write(memory / "docker/abc", memory__limit_in_bytes=2**30)
    assert cgroup.limits(host.proc) == Limits(0.3, 2**30)
    assert cgroup.throttling(host.proc) == Throttling(1049, 1038, 72.6)


def test_version_2_takes_the_tightest_ancestor(host):
    top = host.mount("cgroup", 2, path="/pod/box")
    write(top / "pod/box", cpu__max="max 100000", memory__max="max")
    write(top / "pod", cpu__max="150000 100000", memory__max=2**31, cpu__stat=CPU_STAT_2)
    assert cgroup.limits(host.proc) == Limits(1.5, 2**31)
    assert cgroup.throttling(host.proc) == Throttling(1049, 1038, 72.6)


def test_a_mounted_root_below_the_hosts_path(host):
    """Docker without a cgroup namespace mounts the group itself, and reports the host's path."""
    top = host.mount("a b", 1, "cpu", root="/docker/abc", path="/docker/abc")
    write(top, cpu__cfs_quota_us=50000, cpu__cfs_period_us=100000, cpu__stat=CPU_STAT_1)
    assert cgroup.limits(host.proc).cpus == 0.5


def test_no_limit_and_no_linux(host, tmp_path):
    top = host.mount("cgroup", 2, path="/")
    write(top, cpu__max="max 100000", memory__max="max", cpu__stat=CPU_STAT_2)
    assert cgroup.limits(host.proc) == Limits()
    assert cgroup.throttling(host.proc) is None
    assert cgroup.limits(tmp_path / "nothing") == Limits()
    assert cgroup.throttling(tmp_path / "nothing") is None


@pytest.mark.parametrize("text", ["", "x", "30000", "0 100000", "30000 0", "-1 100000"])
def test_strange_files_are_no_limit(host, text):
    top = host.mount("cgroup", 2)
    write(top, cpu__max=text, memory__max=text.split()[0] if text[:1] == "x" else "max")
    assert cgroup.limits(host.proc) == Limits()


def test_what_happened_between_two_looks():
    before, after = Throttling(10, 2, 0.5), Throttling(20, 11, 1.25)
    assert after - before == Throttling(10, 9, 0.75)
