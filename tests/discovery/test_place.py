"""Names come from the control group's path, or there is none."""

from __future__ import annotations

import pytest
from fake_host import ID, ID2, UID
from hypothesis import given
from hypothesis import strategies as st

from excise.workload import Workload
from excise_agent.discovery.place import MAX_NAME, parse_place

UNDER = UID.replace("-", "_")
USER = "/user.slice/user-1000.slice/user@1000.service"

POD = ("pod", UID)
CONTAINER = ("container", ID)
CASES = {
    # systemd
    "/system.slice/vllm.service": ("unit", "vllm.service"),
    "/system.slice/vllm.service/workers": ("unit", "vllm.service"),
    "/system.slice/vllm@llama.service (deleted)": ("unit", "vllm@llama.service"),
    "/system.slice/run-r12ab.scope": ("unit", "run-r12ab.scope"),
    f"{USER}/app.slice/vllm.service": ("unit", "vllm.service"),
    r"/ai.slice/ai-serve.slice/a\x2db.service": ("unit", r"a\x2db.service"),
    # loose
    "/": None,
    "/init.scope": None,
    "/user.slice/user-1000.slice/session-3.scope": None,
    f"{USER}/init.scope": None,
    f"{USER}/app.slice/vte-spawn-3f5b2c1a.scope": None,
    f"{USER}/tmux-spawn-3f5b2c1a.scope": None,
    "/system.slice/ssh.service": None,
    "/system.slice/system-getty.slice/getty@tty1.service": None,
    "/process_api/c72197dde7512370fd63c757cdc0d5fc": None,  # 32 digits name no container
    # containers
    f"/system.slice/docker-{ID}.scope": CONTAINER,
    f"/docker/{ID}": CONTAINER,
    f"/system.slice/containerd.service/docker/{ID}": CONTAINER,
    f"/ecs/7d1c/{ID}": CONTAINER,
    f"/machine.slice/libpod-{ID}.scope": CONTAINER,
    f"/machine.slice/libpod-{ID}.scope/container": CONTAINER,
    f"{USER}/user.slice/user-libpod_pod_{ID2}.slice/libpod-{ID}.scope/container": CONTAINER,
    f"/machine.slice/libpod-conmon-{ID}.scope": None,
    f"/system.slice/cri-containerd-{ID}.scope": CONTAINER,
    f"/system.slice/nerdctl-{ID}.scope": CONTAINER,
    "/machine.slice/machine-deb.scope": ("container", "deb"),
    r"/machine.slice/machine-my\x2dbox.scope/payload": ("container", "my-box"),
    "/machine.slice/systemd-nspawn@deb.service/payload": ("container", "deb"),
    "/machine.slice/systemd-nspawn@deb.service/supervisor": ("unit", "systemd-nspawn@deb.service"),
    "/lxc/web": ("container", "web"),
    "/lxc.payload.web/system.slice/a.service": ("unit", "web/a.service"),
    "/lxc.payload/web/ns": ("container", "web"),
    "/lxc.monitor.web": None,
    # pods
    f"/kubepods/burstable/pod{UID}/{ID}": POD,
    f"/kubepods/pod{UID}/{ID}": POD,
    f"/kubepods/besteffort/pod{'0af1' * 8}/{ID}": ("pod", "0af1" * 8),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDER}.slice/cri-containerd-{ID}.scope": POD,
    f"/kubepods.slice/kubepods-pod{UNDER}.slice/crio-{ID}.scope": POD,
    f"/kubepods.slice/kubepods-pod{UNDER}.slice/crio-conmon-{ID}.scope": POD,
    f"/system.slice/containerd.service/kubepods-besteffort-pod{UNDER}.slice:cri-containerd:{ID}": POD,
    f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDER}.slice/cri-containerd-{ID}.scope": POD,
    f"/../../kubepods/burstable/pod{UID}/{ID}": POD,
    # one within another
    f"/kubepods/burstable/pod{UID}/{ID}/docker/{ID2}": POD,
    f"/docker/{ID2}/kubelet/kubepods/burstable/pod{UID}/{ID}": POD,
    f"/docker/{ID2}/docker/{ID}": CONTAINER,
    "/machine.slice/machine-deb.scope/payload/system.slice/vllm.service": ("unit", "deb/vllm.service"),
    f"/machine.slice/machine-deb.scope/payload/system.slice/docker-{ID}.scope": CONTAINER,
    "/machine.slice/machine-a.scope/payload/machine.slice/machine-b.scope/payload": ("container", "a/b"),
    "/machine.slice/machine-deb.scope/payload/user.slice/user-0.slice/session-c1.scope": None,
    "/machine.slice/machine-deb.scope/payload/init.scope": None,
}


def named(raw: str) -> tuple[str, str] | None:
    workload = parse_place(raw.encode()).workload
    return (workload.kind, workload.name) if workload else None


@pytest.mark.parametrize("path", CASES)
def test_a_version_2_path_names_what_it_says(path: str) -> None:
    assert named(f"0::{path}\n") == CASES[path]


@pytest.mark.parametrize("path", CASES)
def test_a_version_1_host_says_the_same(path: str) -> None:
    assert named(f"12:cpu,cpuacct:{path}\n3:memory:{path}\n1:name=systemd:{path}\n") == CASES[path]


def test_a_hybrid_host_names_the_container_that_version_2_does_not_show() -> None:
    docker = f"/docker/{ID}"
    assert named(f"5:memory:{docker}\n1:name=systemd:{docker}\n0::/system.slice/containerd.service\n") == CONTAINER


def test_a_hybrid_host_names_the_unit_that_only_systemds_own_hierarchy_shows() -> None:
    assert named("4:memory:/x\n1:name=systemd:/system.slice/a.service\n0::/\n") == ("unit", "a.service")


def test_a_session_is_loose_whatever_another_controller_says() -> None:
    assert named("8:pids:/system.slice/odd.service\n1:name=systemd:/user.slice/session-3.scope\n0::/\n") is None


def test_rules_can_ask_for_every_part() -> None:
    place = parse_place(f"0::/kubepods/burstable/pod{UID}/{ID}\n".encode())
    assert (place.pod, place.container, place.paths) == (UID, ID, (f"/kubepods/burstable/pod{UID}/{ID}",))


def test_a_name_is_printable_text() -> None:
    place = parse_place(b"0::/system.slice/a\x1b[2J\xff\n.service\n".replace(b"\n.", b"\x7f."))
    assert place.workload is not None and place.workload.name.isprintable() and "\x1b" not in place.workload.name


@given(st.one_of(st.binary(), st.lists(st.sampled_from(
    [b"0::", b"1:name=systemd:", b"\n", b"/", b"..", b"pod", b"kubepods", b"a.service", b".scope", b"machine-", b"lxc",
     b"lxc.payload.", b"payload", b"user.slice", ID.encode(), UID.encode(), b"\xff", b":", b"(deleted)", b"supervisor"]
)).map(b"".join)))
def test_any_bytes_are_read_without_an_error(raw: bytes) -> None:
    workload = parse_place(raw).workload
    if workload is not None:
        assert isinstance(workload, Workload) and 0 < len(workload.name) <= MAX_NAME and workload.name.isprintable()
