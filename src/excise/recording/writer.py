"""Items into a file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from excise.batch import Item
from excise.output_file import OutputFile
from excise.recording._format import MAGIC, VERSION, FrameType, RecordingError, frame
from excise.recording._items import encode_item
from excise.recording._lists import current


def start_bytes() -> bytes:
    """What a recording begins with."""
    return MAGIC + b"%d\n" % VERSION + frame(FrameType.NAMES, current())


def item_bytes(item: Item) -> bytes:
    """An item as whole frames. ValueError, TypeError, OverflowError: it cannot be recorded."""
    return b"".join(frame(kind, content) for kind, content in encode_item(item))


class RecordingWriter:
    """Writes each item as whole frames, at once. Single-threaded: one writer, one thread.

    `target` is a path, "-" for standard output, or a descriptor, which stays the caller's to close.
    A write that fails raises RecordingError once; later calls of `write` do nothing: the session goes on.
    """

    def __init__(self, target: str | Path | int) -> None:
        self._file = OutputFile(target, "recording", RecordingError)
        try:
            self._file.write(start_bytes())
        except RecordingError:
            self.close()
            raise

    @property
    def path(self) -> str:
        return self._file.path

    @property
    def failed(self) -> bool:
        return self._file.failed

    @property
    def bytes_written(self) -> int:
        return self._file.bytes_written

    def write(self, item: Item) -> None:
        if self.failed:
            return
        try:
            frames = item_bytes(item)
        except (ValueError, TypeError, OverflowError) as error:
            self._file.failed = True
            raise RecordingError(
                f"{self.path}: {_WHAT[type(item).__name__]} cannot be recorded ({error}); the recording ends "
                f"here, after {self.bytes_written} bytes") from error
        self._file.write(frames)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


_WHAT = {"Header": "the header", "Definitions": "definitions", "Batch": "a batch", "Totals": "totals",
         "HostSample": "a host sample", "Cost": "our own cost", "End": "the end"}
