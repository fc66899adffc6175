import errno
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from recording_files import comparable
from typical_recording import minute

from excise.batch import End, Header
from excise.recording import Recording, RecordingError, RecordingWriter, read_recording

HEADER = Header("boot", {}, {"pid": 1}, 1, 1, 99.0)
END = End(9, "duration", {})


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        RecordingWriter(tmp_path / "a.excise").close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.excise").stat().st_mode) == 0o600


def test_an_old_file_is_emptied_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "a.excise"
    path.write_bytes(b"x" * 100_000)
    path.chmod(0o644)
    with RecordingWriter(str(path)) as writer:
        writer.write(HEADER)
        writer.write(END)
    assert list(read_recording(path)) == [HEADER, END]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_links_fifos_devices_and_folders_are_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "fifo")
    for name, why in {"link": "symbolic link", "dangling": "symbolic link", "fifo": "not a regular file",
                      ".": "not a regular file", "/dev/null": "not a regular file",
                      "gone/a": "no such file"}.items():
        with pytest.raises(RecordingError, match=why):
            RecordingWriter(tmp_path / name)
    os.link(victim, tmp_path / "second")
    with pytest.raises(RecordingError, match="hard links"):
        RecordingWriter(victim)
    assert victim.read_text() == "precious" and not (tmp_path / "nowhere").exists()


def test_a_fifo_with_a_reader_is_refused_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(RecordingError, match="not a regular file"):
        RecordingWriter(tmp_path / "fifo")
    os.close(reader)


def test_a_terminal_is_refused() -> None:
    primary, secondary = pty.openpty()
    with pytest.raises(RecordingError, match="terminal"):
        RecordingWriter(secondary)
    os.close(primary)
    os.close(secondary)


def test_standard_output_can_be_piped(tmp_path: Path) -> None:
    script = "from test_recording_writer import *\nw = RecordingWriter('-'); w.write(HEADER); w.write(END)"
    out = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, stdout=subprocess.PIPE,
                         check=True)
    (tmp_path / "piped").write_bytes(out.stdout)
    assert list(read_recording(tmp_path / "piped")) == [HEADER, END]


def test_every_item_is_on_the_disk_when_write_returns(tmp_path: Path) -> None:
    """So a killed agent leaves a readable file."""
    writer, path = RecordingWriter(tmp_path / "a.excise"), tmp_path / "a.excise"
    done = []
    for item in minute(seconds=1, stacks=100):
        writer.write(item)
        done.append(comparable(item))
        recording = Recording(path)
        assert [comparable(i) for i in recording.items()] == done
        assert recording.truncated is not isinstance(item, End)
    writer.close()


def test_a_full_disk_is_said_once_and_leaves_whole_frames(tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "a.excise", os.write
    writer = RecordingWriter(path)
    writer.write(HEADER)
    room = 100

    def full(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        wrote = write(fd, bytes(data)[:room])
        room -= wrote
        return wrote

    monkeypatch.setattr(os, "write", full)
    items = list(minute(seconds=1, stacks=100))
    with pytest.raises(RecordingError, match=r"a\.excise: no space left on the device; the recording ends"):
        writer.write(items[1])
    for item in items[2:]:
        writer.write(item)
    writer.close()
    recording = Recording(path)
    assert list(recording.items()) == [HEADER] and recording.truncated
    assert path.stat().st_size == writer.bytes_written


def test_a_really_full_device_is_a_sentence() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(RecordingError, match="no space left on the device"):
        RecordingWriter(fd)
    os.close(fd)  # still the caller's


def test_what_cannot_be_recorded_is_said_once(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.excise") as writer:
        writer.write(HEADER)
        with pytest.raises(RecordingError, match="the end cannot be recorded"):
            writer.write(End(9, "duration", {"what": object()}))
        writer.write(END)
    recording = Recording(tmp_path / "a.excise")
    assert list(recording.items()) == [HEADER] and recording.truncated


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.excise")
    writer.close()
    writer.close()
