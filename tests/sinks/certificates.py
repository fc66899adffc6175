"""An authority, a server named "collector.test", a client, and another authority that nobody trusts. By openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

SERVER = "collector.test"


def make(folder: Path) -> Path:
    for authority in ("ca", "stranger"):
        _run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", f"/CN={authority}", "-keyout", folder / f"{authority}.key", "-out", folder / f"{authority}.pem")
    for name in ("server", "client"):
        _run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
             "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr")
        (folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{SERVER}\n")
        _run("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
             "-CAcreateserial", "-days", "2", "-extfile", folder / f"{name}.ext", "-out", folder / f"{name}.pem")
    return folder


def _run(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
