from __future__ import annotations

from pathlib import Path

from fake_proc import FakeProc

from excise_agent.cgroups import CpuLimits, read_cpu_limits, throttled_ns

POD = "/kubepods.slice/pod1.slice/box.scope"


def v2(fake: FakeProc, mount: Path, group: str = POD, root: str = "/") -> None:
    fake.write("7/cgroup", f"0::{group}\n")
    place = str(mount).replace(" ", "\\040")
    fake.write("self/mountinfo", "31 23 0:28 / /sys rw - sysfs sysfs rw\n"
               f"41 31 0:38 {root} {place} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n")


def group(mount: Path, path: str, **files: str) -> None:
    folder = mount / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("cpu_", "cpu.", 1)).write_text(text)


def test_tightest_limit_on_the_path_counts(fake: FakeProc, tmp_path: Path) -> None:
    mount = tmp_path / "c group"
    v2(fake, mount)
    group(mount, POD, cpu_max="800000 100000\n", cpu_stat="usage_usec 9\nthrottled_usec 11\n")
    group(mount, "/kubepods.slice/pod1.slice", cpu_max="250000 100000\n", cpu_stat="throttled_usec 70\n")
    group(mount, "/kubepods.slice", cpu_max="max 100000\n", cpu_stat="nr_periods 0\nthrottled_usec 0\n")
    limits = read_cpu_limits(7, fake.root)
    assert limits is not None
    assert (limits.version, limits.quota_cpus) == (2, 2.5)
    assert limits.throttled_ns == {POD: 11_000, "/kubepods.slice/pod1.slice": 70_000, "/kubepods.slice": 0}


def test_no_limit_is_none_and_no_group_is_not_measured(fake: FakeProc, tmp_path: Path) -> None:
    v2(fake, tmp_path / "cg")
    group(tmp_path / "cg", POD, cpu_max="max 100000\n")
    limits = read_cpu_limits(7, fake.root)
    assert limits is not None
    assert limits.quota_cpus is None
    assert limits.throttled_ns == {}
    assert read_cpu_limits(8, fake.root) is None


def test_container_that_is_shown_its_own_part_only(fake: FakeProc, tmp_path: Path) -> None:
    v2(fake, tmp_path / "cg", group=POD, root="/kubepods.slice/pod1.slice")
    group(tmp_path / "cg", "/box.scope", cpu_max="150000 100000\n")
    limits = read_cpu_limits(7, fake.root)
    assert limits is not None
    assert limits.quota_cpus == 1.5
    v2(fake, tmp_path / "cg", group="/../other")
    assert read_cpu_limits(7, fake.root) is None


def test_version_1_counts_where_it_has_the_cpu_controller(fake: FakeProc, tmp_path: Path) -> None:
    mount = tmp_path / "cpu"
    fake.write("7/cgroup", "4:memory:/m\n2:cpu,cpuacct:/docker/ab\n0::/\n")
    fake.write("self/mountinfo", f"32 31 0:29 / {mount} rw - cgroup cgroup rw,cpu,cpuacct\n"
               "41 31 0:38 / /none rw - cgroup2 cgroup2 rw\n")
    group(mount, "/docker/ab", cpu_cfs_quota_us="50000\n", cpu_cfs_period_us="100000\n",
          cpu_stat="nr_throttled 3\nthrottled_time 777\n")
    group(mount, "/", cpu_cfs_quota_us="-1\n", cpu_cfs_period_us="100000\n", cpu_stat="throttled_time 5\n")
    limits = read_cpu_limits(7, fake.root)
    assert limits is not None
    assert (limits.version, limits.path, limits.quota_cpus) == (1, "/docker/ab", 0.5)
    assert limits.throttled_ns == {"/docker/ab": 777, "/": 5}


def test_throttled_time_is_the_most_throttled_groups() -> None:
    before = CpuLimits(2, "/a/b", 1.0, {"/a/b": 100, "/a": 50})
    after = CpuLimits(2, "/a/b", 1.0, {"/a/b": 130, "/a": 97, "/": 1_000_000})
    assert throttled_ns(before, after) == 47
    assert throttled_ns(None, after) is None
    assert throttled_ns(CpuLimits(2, "/x", None, {}), after) is None


def test_live_group_is_read() -> None:
    import os

    limits = read_cpu_limits(os.getpid())
    assert limits is not None
    assert limits.quota_cpus is None or limits.quota_cpus > 0
