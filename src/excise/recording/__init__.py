"""Recordings: the stream of `Item`s in a file, from which every report can be made again without the host.

A `.excise` file is the line `excise-recording 1`, then frames:

    length u32 | crc32 u32 | type u8 | payload      (little endian; crc over type and payload)

A payload is zlib-compressed msgpack. The first frame holds the lists of `names.py` as they were at the
time of writing; each later frame is one item (or a part of a large one). Arrays are stored by column. Whole
frames are written at once, so that what a crash leaves is readable up to the last of them.

Names that are not UTF-8 come back with the odd bytes escaped, names over 16 KiB are cut, tuples in the
free-form dictionaries (host, target, capabilities, overhead, cost) come back as lists.
"""

from excise.recording._format import RecordingError
from excise.recording.reader import Recording, read_recording
from excise.recording.writer import RecordingWriter, item_bytes, start_bytes

__all__ = ["Recording", "RecordingError", "RecordingWriter", "item_bytes", "read_recording", "start_bytes"]
