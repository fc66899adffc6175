"""What the tests of several sinks share."""

from __future__ import annotations

from pathlib import Path

import certificates
import pytest


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: {ca,stranger,server,client}.{key,pem}."""
    return certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "shared_key"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return path
