"""Reads `_Py_DebugOffsets`, with which CPython 3.13 and later begin `_PyRuntime` to describe themselves to
tools.

It is a run of u64: a cookie, the version, the free-threading flag, then one group of offsets a struct, each
group headed by the struct's size. Groups grow between versions, so their lengths are listed here by version.
"""

from __future__ import annotations

import struct
from typing import Final

from excise_agent.cpython.layout import MAX_CODE_BYTES, MAX_FRAME_BYTES, Layout

COOKIE: Final = b"xdebugpy"
_HEAD: Final = 3  # words before the first group
_GROUPS: Final = ("runtime", "interpreter", "thread", "frame", "code", "object", "type", "tuple", "list",
                  "set", "dict", "float", "long", "bytes", "unicode")
_WORDS: Final = {  # by version, in the order of _GROUPS; checked on 3.13.0, 3.14.10 and 3.15.2
    0x030D: (3, 13, 9, 6, 10, 2, 4, 3, 3, 0, 3, 2, 3, 3, 4),
    0x030E: (3, 16, 9, 8, 11, 2, 4, 3, 3, 4, 3, 2, 3, 3, 4),
    0x030F: (3, 16, 17, 8, 11, 2, 8, 3, 3, 4, 3, 2, 3, 3, 4),
}
_TSS_KEY: Final = {0x030D: 2164, 0x030E: 2340, 0x030F: None}  # autoTSSkey._key; not described
SIZE_BYTES: Final = 8 * (_HEAD + max(sum(words) for words in _WORDS.values()))


def free_threaded(raw: bytes) -> bool:
    return bool(struct.unpack_from("<Q", raw, 16)[0])


def parse(raw: bytes, version: int) -> Layout | str:
    """The layout that these bytes describe, or a sentence that says what is wrong with them."""
    if len(raw) < SIZE_BYTES or not raw.startswith(COOKIE):
        return "its runtime structure does not begin with the debug offsets"
    words = struct.unpack_from(f"<{SIZE_BYTES // 8}Q", raw)
    if words[1] >> 16 != version:
        return f"its debug offsets are for version {words[1] >> 24}.{words[1] >> 16 & 255}"
    at = _HEAD
    groups: dict[str, tuple[int, ...]] = {}
    for name, count in zip(_GROUPS, _WORDS[version], strict=True):
        group = groups[name] = words[at:at + count]
        if any(offset > group[0] for offset in group[1:]) and name in ("thread", "frame", "code", "unicode"):
            return f"its debug offsets for {name} lie outside of the structure"
        at += count
    thread, frame, code, text = groups["thread"], groups["frame"], groups["code"], groups["unicode"]
    ids = 8 if version >= 0x030F else 5  # 3.15 put three frame pointers before the thread's two ids
    layout = Layout(
        version=version, runtime_tss_key=_TSS_KEY[version],
        runtime_interpreters_head=groups["runtime"][2], is_next=groups["interpreter"][2],
        is_threads_head=groups["interpreter"][3],
        ts_next=thread[2], ts_interp=thread[3], ts_frame=thread[4], ts_thread_id=thread[ids],
        ts_native_thread_id=thread[ids + 1], cframe_frame=None,
        f_back=frame[1], f_code=frame[2], f_instr=frame[3], f_owner=frame[5],
        co_filename=code[1], co_qualname=code[3], co_linetable=code[4], co_firstlineno=code[5],
        co_code_adaptive=code[9], co_version=code[7] - 4,  # not described; it precedes co_localsplusnames
        str_state=text[1], str_length=text[2], str_data=text[3], str_data_compact=text[3] + 16,
        bytes_size=groups["bytes"][1], bytes_data=groups["bytes"][2], ob_type=groups["object"][1],
    )
    return _wrong(layout) or layout


def _wrong(o: Layout) -> str | None:
    """What a walk could not live with."""
    small = (o.ts_next, o.ts_interp, o.ts_frame, o.ts_thread_id, o.ts_native_thread_id or 0,
             o.co_code_adaptive or 0, o.bytes_size, o.bytes_data, o.ob_type)
    if max(small) > 4096 or max(o.is_next, o.is_threads_head, o.runtime_interpreters_head) > 1 << 24:
        return "its debug offsets are too large to be true"
    if o.f_size > MAX_FRAME_BYTES or o.co_span > MAX_CODE_BYTES or o.str_data > 64 \
            or not o.str_length < o.str_state < o.str_data:
        return "its debug offsets describe structures that are too large to be true"
    if o.co_version is None or not o.co_base <= o.co_version <= o.co_base + o.co_span - 4:
        return "its code objects are laid out in a way that this version of Excise does not know"
    return None
