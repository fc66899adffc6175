"""Builds /proc trees of a few processes."""

from __future__ import annotations

from pathlib import Path


class FakeProc:
    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def process(self, pid: int, parent: int, comm: str = "python3", start_ticks: int = 1103,
                ticks: tuple[int, int, int, int] = (7, 5, 3, 2)) -> None:
        fields = ["S", str(parent), *["0"] * 9, *map(str, ticks), "20", "0", "1", "0", str(start_ticks), "0"]
        self.write(f"{pid}/stat", f"{pid} ({comm}) {' '.join(fields)}\n")
        self.write(f"{pid}/comm", f"{comm}\n")
        self.write(f"{pid}/statm", "900 17 5 1 0 20 0\n")
        self.write(f"{pid}/io", f"rchar: 9\nwchar: 9\nread_bytes: {pid * 4096}\nwrite_bytes: 8192\n")
        self.write(f"{pid}/status", f"Name:\tx\nNSpid:\t{pid}\t3\nCpus_allowed_list:\t0-2,5,7-8\n")

    def socket(self, pid: int, fd: int, inode: int) -> None:
        link = self.root / f"{pid}/fd/{fd}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"socket:[{inode}]")

    def listening(self, pid: int, ports: dict[int, int], name: str = "tcp") -> None:
        """inode -> port, and one connection behind them."""
        rows = ["  sl  local_address rem_address st ..."]
        middle = "00000000:00000000 00:00000000 00000000 0 0"
        rows += [f"   0: 0100007F:{port:04X} 00000000:0000 0A {middle} {inode} 1 0"
                 for inode, port in ports.items()]
        rows.append(f"   9: 0100007F:1F90 0100007F:BEEF 01 {middle} 977 1 0")
        self.write(f"{pid}/net/{name}", "\n".join(rows) + "\n")
