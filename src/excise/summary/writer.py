"""Summaries into a file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from excise.output_file import OutputFile
from excise.summary._summary import Summary
from excise.summary.schema import SummaryError
from excise.summary.segment import SEGMENT_BYTES, SEGMENT_SUMMARIES, SegmentEncoder


class SummaryWriter:
    """Writes each summary as whole frames, at once. Single-threaded: one writer, one thread.

    `target` is a path, "-" for standard output, or a descriptor, which stays the caller's to close.
    A write that fails raises SummaryError once; later calls of `write` do nothing: the session goes on.
    """

    def __init__(self, target: str | Path | int, *, segment_summaries: int = SEGMENT_SUMMARIES,
                 segment_bytes: int = SEGMENT_BYTES) -> None:
        self._encoder = SegmentEncoder(segment_summaries, segment_bytes)
        self._file = OutputFile(target, "stream of summaries", SummaryError)

    @property
    def path(self) -> str:
        return self._file.path

    @property
    def failed(self) -> bool:
        return self._file.failed

    @property
    def bytes_written(self) -> int:
        return self._file.bytes_written

    def write(self, summary: Summary) -> None:
        """Check it before if it is not of a SummaryBuilder or a reader. SummaryError."""
        if self._file.failed:
            return
        try:
            content = self._encoder.encode(summary)
        except ValueError as error:
            self._file.failed = True
            raise SummaryError(f"{self.path}: a summary cannot be written ({error}); the stream of summaries ends "
                               f"here, after {self.bytes_written} bytes") from error
        self._file.write(content)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
