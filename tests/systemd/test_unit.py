"""What the unit closes, by systemd's own measure."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd/excise.service"
EXPOSURE = 27  # tenths, 0 to 100. What remains stands in the unit with its reason; 25 on systemd 252
RIGHTS = "CAP_BPF CAP_PERFMON CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_CHECKPOINT_RESTORE"


def settings() -> dict[str, str]:
    """The last of each setting of [Service]."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def test_exposure_is_low() -> None:
    asked = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", UNIT],
        capture_output=True, text=True, check=False,
    )
    assert asked.returncode == 0, asked.stdout[-400:]


def test_rights_are_five_and_each_is_explained() -> None:
    found = settings()
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"] == RIGHTS
    text = UNIT.read_text()
    assert [name for name in RIGHTS.split() if f"# {name} " not in text] == []


def test_what_stays_open_is_explained() -> None:
    closed, text = settings(), UNIT.read_text()
    for name in ("MemoryDenyWriteExecute", "PrivateUsers", "ProtectProc", "PrivateDevices", "PrivateNetwork",
                 "IPAddressDeny", "RootDirectory"):
        assert name not in closed
        assert f"# {name}" in text


def test_fuses_are_there() -> None:
    assert {"MemoryMax", "CPUQuota", "TasksMax", "WatchdogSec", "TimeoutStopSec", "OOMScoreAdjust", "LimitCORE"} <= {
        *settings()
    }
