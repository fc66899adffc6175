"""Code addresses of user space, named: address -> mapping -> file offset -> symbol."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from excise.frames import Frame
from excise_agent._elf import BytesSource, Elf
from excise_agent.maps import Mapping, Maps, parse_maps, read_maps, read_maps_text
from excise_agent.safe_open import Identity, Opened, Refused, open_exe, open_in_root, open_link, open_mapping
from excise_agent.symbols import SymbolCache, SymbolFile, debug_file, load_symbols

REREAD_S: Final = 1.0    # an address outside every mapping: maps are read again, at most this often
STALE_S: Final = 10.0    # a library may take the place of another one: maps this old are read again
MAX_FRAMES: Final = 50_000  # kept, of all processes: 10 MB
MAX_MODULES: Final = 10_000  # kept per process; a torch process maps about 200
_UNMAPPED: Final = Frame("native", "", "")
_ModuleKey = tuple[int, int, str, int]


@dataclass(slots=True)
class _Space:
    """What is known of one process's address space."""

    maps: Maps | None
    text: int  # hash of what it was read from
    read_s: float
    version: int = 0
    frames: dict[int, Frame] = field(default_factory=dict)
    modules: dict[_ModuleKey, Identity | None] = field(default_factory=dict)  # None: could not be opened


class NativeSymbols:
    """Names addresses of many processes. Not thread-safe.

    An address should lie inside the call, not behind it: for a return address pass it less 1. Call forget()
    when a process has ended or called exec.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
        cache: SymbolCache | None = None,
        debug_dir: Path = Path("/usr/lib/debug"),
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._cache = cache if cache is not None else SymbolCache()
        self._debug_dir = debug_dir
        self._spaces: dict[int, _Space] = {}
        self._frames = 0  # in all spaces
        self._versions = 0
        self._users: Counter[Identity] = Counter()  # of each file: how often the spaces name it
        self._vdso: SymbolFile | None = None
        self._vdso_read = False
        self.refused: Counter[str] = Counter()
        """Files that could not be opened or read, by reason (safe_open.Reason, "not_elf" or "too_many")."""

    def resolve(self, pid: int, addr: int) -> Frame:
        """Never raises. No mapping: file and name are ""; no symbol: name is ""."""
        space = self._space(pid)
        known = space.frames.get(addr)
        if known is not None:
            return known
        found = self.span(pid, addr)
        if found is None:
            return _UNMAPPED  # not kept: it may be mapped later
        if self._frames >= MAX_FRAMES:
            for other in self._spaces.values():
                other.frames.clear()
            self._frames = 0
        space.frames[addr] = found[2]
        self._frames += 1
        return found[2]

    def version(self, pid: int) -> int:
        """Changes whenever what was said of a process's addresses may not hold any more."""
        space = self._space(pid)
        return space.version

    def span(self, pid: int, addr: int) -> tuple[int, int, Frame] | None:
        """[low, high) addresses around this one that have the same frame, and the frame; None: it is not mapped."""
        space = self._space(pid)
        mapping = space.maps.find(addr) if space.maps is not None else None
        if mapping is None and self._reread(pid, space, REREAD_S) and space.maps is not None:
            mapping = space.maps.find(addr)
        if mapping is None:
            return None
        low, high, name = self._span(pid, space, mapping, addr)
        return max(low, mapping.start), min(high, mapping.end), Frame("native", mapping.label, name)

    def preload(self, pid: int, until_s: float) -> None:
        """Reads the symbol tables of what a process maps, until the clock says so: later they would cost the window."""
        space = self._space(pid)
        for mapping in space.maps.mappings if space.maps is not None else ():
            if self._clock() >= until_s:
                return
            if mapping.is_file:
                self._module(pid, space, mapping)

    def forget(self, pid: int) -> None:
        """Drop what is known of a process, and the files that no other watched process uses."""
        space = self._spaces.pop(pid, None)
        if space is None:
            return
        self._frames -= len(space.frames)
        for identity in space.modules.values():
            self._release(identity)

    def _release(self, identity: Identity | None) -> None:
        if identity is None:
            return
        self._users[identity] -= 1
        if not self._users[identity]:
            del self._users[identity]
            self._cache.drop(identity)

    def close(self) -> None:
        self._spaces.clear()
        self._users.clear()
        self._frames = 0
        self._cache.close()

    def _space(self, pid: int) -> _Space:
        space = self._spaces.get(pid)
        if space is None:
            raw = read_maps_text(pid, self._proc)
            maps = parse_maps(raw) if raw is not None else None
            self._versions += 1
            space = self._spaces[pid] = _Space(maps, hash(raw), self._clock(), self._versions)
        else:
            self._reread(pid, space, STALE_S)
        return space

    def _reread(self, pid: int, space: _Space, age_s: float) -> bool:
        now = self._clock()
        if now - space.read_s < age_s:
            return False
        space.read_s = now
        raw = read_maps_text(pid, self._proc)
        if raw is None or hash(raw) == space.text:
            return raw is not None
        maps = parse_maps(raw)
        if not len(maps):
            return False  # it has ended: the last known map still names what it did
        space.text = hash(raw)
        if space.maps is None or maps.mappings != space.maps.mappings:
            space.maps = maps
            self._frames -= len(space.frames)
            space.frames.clear()
            self._versions += 1
            space.version = self._versions
            mapped = {_module_key(m) for m in maps.mappings}
            for key in [k for k, v in space.modules.items() if v is None or k not in mapped]:
                self._release(space.modules.pop(key))
        return True

    def _span(self, pid: int, space: _Space, mapping: Mapping, addr: int) -> tuple[int, int, str]:
        if mapping.path == "[vdso]":
            vdso, moved = self._own_vdso(mapping.end - mapping.start), mapping.start
            found = vdso.span_at(addr - moved) if vdso is not None else None
        elif mapping.is_file:
            file, moved = self._module(pid, space, mapping), mapping.start - mapping.offset
            found = file.span_at(addr - moved) if file is not None else None
        else:
            found = None
        if found is None:
            return mapping.start, mapping.end, ""
        return found[0] + moved, found[1] + moved, found[2]

    def _module(self, pid: int, space: _Space, mapping: Mapping) -> SymbolFile | None:
        key = _module_key(mapping)
        identity = space.modules.get(key)
        if identity is None and key in space.modules:
            return None
        if identity is not None and self._cache.known(identity):
            return self._cache.get(identity)
        if len(space.modules) >= MAX_MODULES:
            self.refused["too_many"] += 1
            return None
        found = self._open(pid, mapping)
        if isinstance(found, Refused):
            self.refused[found.reason] += 1
            self._use(space, key, None)
            return None
        identity = found.identity
        self._use(space, key, identity)
        if self._cache.known(identity):
            found.close()
            return self._cache.get(identity)
        file = load_symbols(found, lambda elf: self._debug(pid, mapping, elf))
        if file is None:
            self.refused["not_elf"] += 1
        self._cache.put(identity, file)
        return file

    def _use(self, space: _Space, key: _ModuleKey, identity: Identity | None) -> None:
        before = space.modules.get(key)
        if identity is not None:
            self._users[identity] += 1
        space.modules[key] = identity
        self._release(before)

    def _open(self, pid: int, mapping: Mapping) -> Opened | Refused:
        """The mapped file itself; else what has its name now, if that is still the same inode."""
        found = open_mapping(pid, mapping.start, mapping.end, self._proc)
        if isinstance(found, Opened):
            return found
        other = open_exe(pid, self._proc) if mapping.deleted else open_in_root(pid, mapping.path, self._proc)
        if isinstance(other, Opened) and other.identity.inode != mapping.inode:
            other.close()
            return Refused("replaced", mapping.label)
        return other

    def _debug(self, pid: int, mapping: Mapping, elf: Elf) -> Opened | None:
        folder = PurePosixPath(mapping.path).parent
        host = self._debug_dir / str(folder).lstrip("/")
        return debug_file(elf, self._debug_dir / ".build-id", [
            lambda name: open_link(host / name) if ".." not in host.parts else Refused("escape"),
            lambda name: open_in_root(pid, str(folder / ".debug" / name), self._proc),
            lambda name: open_in_root(pid, f"/usr/lib/debug{folder}/{name}", self._proc),
        ])

    def _own_vdso(self, size: int) -> SymbolFile | None:
        """Every process of this kernel has the same vDSO (by size, one per ABI): read our own."""
        if not self._vdso_read:
            self._vdso_read = True
            maps = read_maps(os.getpid())
            own = [m for m in maps.mappings if m.path == "[vdso]"] if maps is not None else []
            if own and own[0].end - own[0].start == size:
                try:
                    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
                        memory.seek(own[0].start)
                        self._vdso = load_symbols(BytesSource(memory.read(size) or b""))
                except OSError:
                    self.refused["denied"] += 1
        return self._vdso


def _module_key(mapping: Mapping) -> _ModuleKey:
    # Two deleted files may share all but their place.
    return (mapping.dev, mapping.inode, mapping.path, mapping.start if mapping.deleted else 0)
