"""A decoder written from docs/wire-format.md alone: nothing of Excise is imported. It reads one stream into plain
dictionaries; it is not hardened."""

import hashlib
import struct
import zlib
from itertools import islice
from typing import Any

import msgpack

MAGIC = b"excise-summaries "
KPIS = {1: "cpu_ns", 2: "throttled_ns", 3: "quota_millicpus", 4: "allowed_cpus", 5: "rss_bytes", 6: "disk_read_bytes",
        7: "disk_write_bytes", 8: "net_in_bytes", 9: "net_out_bytes", 10: "threads", 11: "carriers",
        12: "listen_ports"}
QUALITY = {1: "samples", 2: "carrier_samples", 3: "running_ns", 4: "sched_running_ns", 5: "runnable_ns",
           6: "sched_runnable_ns"}
COST = {1: "agent_ns", 2: "bpf_ns", 3: "tick_ns", 4: "target_cpu_ns"}


def column(content: dict[int, Any], key: int) -> list[int]:
    out, value, shift = [], 0, 0
    for byte in content.get(key, b""):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            out.append(value)
            value = shift = 0
    return out


def signed(value: int) -> int:
    return -(value + 1) // 2 if value % 2 else value // 2


def rows(values: list[int], width: int) -> list[tuple[int, ...]]:
    return list(zip(*(values[i::width] for i in range(width)), strict=True))


def running(steps: list[int]) -> list[int]:
    out, total = [], 0
    for step in steps:
        total += signed(step)
        out.append(total)
    return out


def identity(letter: bytes, *fields: str | int) -> int:
    message = letter
    for field in fields:
        if isinstance(field, str):
            raw = field.encode()
            message += b"t" + struct.pack("<Q", len(raw)) + raw
        else:
            message += b"i" + struct.pack("<Q", field)
    return struct.unpack("<Q", hashlib.blake2b(message, digest_size=8).digest())[0]


class Segment:
    def __init__(self) -> None:
        self.strings: list[str] = []
        self.frames: list[tuple[int, tuple[Any, ...]]] = []
        self.stacks: list[tuple[int, list[int]]] = []
        self.processes: list[tuple[int, dict[str, Any]]] = []
        self.capabilities: list[tuple[int, list[str]]] = []
        self.sources: list[tuple[int, tuple[Any, ...]]] = []

    def head(self, content: dict[int, Any]) -> None:
        self.classes, self.states, self.kernel_states, self.stages, self.kinds = (content[k] for k in range(1, 6))

    def define(self, content: dict[int, Any]) -> None:
        self.strings += content.get(1, [])
        text = self.strings
        for kind, file, name, line in zip(column(content, 2), running(column(content, 3)),
                                          running(column(content, 4)), column(content, 5), strict=True):
            frame = (self.kinds[kind], text[file], text[name], line)
            self.frames.append((identity(b"F", *frame), frame))
        frames = iter(running(column(content, 7)))
        for length in column(content, 6):
            ids = [self.frames[f][0] for f in islice(frames, length)]
            self.stacks.append((identity(b"K", *ids), ids))
        for boot, pid, start, comm, python, parent, note in rows(column(content, 8), 7):
            process = {"boot_id": text[boot], "pid": pid, "start_ns": start, "comm": text[comm],
                       "python": text[python - 1] if python else None, "parent": parent, "note": text[note]}
            self.processes.append((identity(b"P", text[boot], pid, start), process))
        capabilities = iter(column(content, 9))
        for count in capabilities:
            names = [text[n] for n in islice(capabilities, count)]
            self.capabilities.append((identity(b"C", *names), names))
        for boot, version, capability, collector, rate in rows(column(content, 10), 5):
            source = (text[boot], text[version], self.capabilities[capability][0], text[collector], rate)
            self.sources.append((identity(b"S", *source), source))

    def summary(self, content: dict[int, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {"windows": content[1], "observed_ns": column(content, 2)[0], "processes": {},
                               "roots": set(), "spans": {}, "cells": {}, "helpers": {}, "lengths": {}, "stacks": {}}
        for source, wall, wall_length, mono, mono_length in rows(column(content, 3), 5):
            spans = out["spans"].setdefault(self.sources[source][0], [])
            spans.append((wall, wall + wall_length, mono, mono + signed(mono_length)))
        out["stage_variances_us2"] = {self.stages[s]: variance(a, b) for s, a, b in rows(column(content, 4), 3)}
        out["tax_error"] = tuple(map(signed, column(content, 5))) or None
        for name, key, names in (("kpis", 6, KPIS), ("quality", 7, QUALITY), ("cost", 8, COST)):
            out[name] = {names[k]: v - 1 if v else None for k, v in rows(column(content, key), 2) if k in names}
        for name, key in (("lost", 9), ("steps", 10)):
            out[name] = {self.strings[s]: v for s, v in rows(column(content, key), 2)}
        self.by_process(content, out)
        return out

    def by_process(self, content: dict[int, Any], out: dict[str, Any]) -> None:
        helpers, cells, lengths = (iter(column(content, k)) for k in (12, 14, 18))
        cell_counts, length_counts, stack_counts = (iter(column(content, k)) for k in (13, 17, 21))
        variances, other = iter(rows(column(content, 15), 2)), iter(column(content, 16))
        buckets, bucket_counts = iter(column(content, 19)), iter(column(content, 20))
        stacks = iter(zip(column(content, 22), column(content, 23), column(content, 24), strict=True))
        for number, flags in rows(column(content, 11), 2):
            process, fields = self.processes[number]
            out["processes"][process] = fields
            if flags & 1:
                out["roots"].add(process)
            for _ in range(next(helpers)):
                library, threads, count = islice(helpers, 3)
                times = rows(list(islice(helpers, 2 * count)), 2)
                out["helpers"][process, self.strings[library]] = (
                    threads, {self.kernel_states[s]: ns for s, ns in times})
            cell = -1
            for _ in range(next(cell_counts)):
                cell += next(cells) + 1
                key = (process, self.classes[cell // len(self.states)], self.states[cell % len(self.states)])
                ns, stack = next(other), -1
                for step, stack_ns, records in islice(stacks, next(stack_counts)):
                    stack += step + 1
                    out["stacks"][(*key, self.stacks[stack][0])] = (stack_ns, records)
                    ns += stack_ns
                out["cells"][key] = (ns, variance(*next(variances)))
            length = -1
            for _ in range(next(length_counts)):
                step, scale, count = islice(lengths, 3)
                length += step + 1
                cls, state = divmod(length, len(self.states) + 1)
                bucket, found = -2, {}
                for step, more in zip(islice(buckets, count), islice(bucket_counts, count), strict=True):
                    bucket += step + 1
                    found[bucket] = more + 1
                name = self.states[state - 1] if state else ""
                out["lengths"][process, self.classes[cls], name] = (scale, found)


def variance(a: int, b: int) -> int | None:
    return b << (a - 1) if a else None


def decode(data: bytes) -> list[dict[str, Any]]:
    """Every summary of a stream; the last may be cut off."""
    at, out, segment = 0, [], Segment()
    while at + 9 <= len(data):
        if data.startswith(MAGIC, at):
            end = data.index(b"\n", at)
            assert data[at + len(MAGIC):end] == b"1"
            at, segment = end + 1, Segment()
            continue
        length, crc, kind = struct.unpack_from("<IIB", data, at)
        payload = data[at + 9:at + 9 + length]
        if len(payload) < length:
            break
        assert zlib.crc32(data[at + 8:at + 9] + payload) == crc
        at += 9 + length
        content = msgpack.unpackb(zlib.decompress(payload, -15), strict_map_key=False)
        if kind == 1:
            segment.head(content)
        elif kind == 2:
            segment.define(content)
        elif kind == 3:
            out.append(segment.summary(content))
    return out


def envelopes(data: bytes) -> list[dict[str, Any]]:
    """Every shipment and gap of a stream that is whole; of a shipment also whether `defined` is right."""
    at, out, defined = 0, [], 0
    while at < len(data):
        if data.startswith(MAGIC, at):
            at, defined = data.index(b"\n", at) + 1, 0
            continue
        length, _, kind = struct.unpack_from("<IIB", data, at)
        payload = data[at + 9:at + 9 + length]
        at += 9 + length
        if kind in (1, 2):
            defined = zlib.crc32(payload, defined)
        content = msgpack.unpackb(zlib.decompress(payload, -15), strict_map_key=False)
        if kind == 4:
            out.append({"sequence": content[1], "workload": content[2], "kind": content[3], "agent": content[4],
                        "settled": content[5], "whole": content[6] == defined, "wall": column(content, 7),
                        "log_ns": content[8]})
            assert data[at + 8] == 3, "its summary is right behind it"
        elif kind == 5:
            out.append({"first": content[1], "last": content[2], "reason": content[3], "agent": content[4],
                        "settled": content[5], "log_ns": content[6]})
    return out
