"""The container's recipe gives the rights that the unit gives, and no others."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "packaging/container"


def unit_rights() -> set[str]:
    line = re.search(r"^CapabilityBoundingSet=(.*)$", (ROOT / "systemd/excise.service").read_text(), re.MULTILINE)
    assert line is not None
    return {name.removeprefix("CAP_") for name in line.group(1).split()}


def test_command_in_the_recipe_has_the_units_rights() -> None:
    text = (RECIPES / "Containerfile").read_text()
    assert set(re.findall(r"--cap-add=(\w+)", text)) == unit_rights()
    assert "--cap-drop=ALL" in text


def test_daemon_set_has_the_units_rights() -> None:
    text = (RECIPES / "daemonset.yaml").read_text()
    added = re.search(r"add: \[(.*)\]", text)
    assert added is not None
    assert set(added.group(1).split(", ")) == unit_rights()
    for line in ("hostPID: true", "privileged: false", "drop: [ALL]", "allowPrivilegeEscalation: false",
                 "readOnlyRootFilesystem: true"):
        assert line in text


def test_build_is_given_all_that_it_copies() -> None:
    """An ignored folder would be missing in the image only."""
    allowed = {line[1:] for line in (RECIPES / "Containerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    script = (ROOT / "packaging/deb/build.sh").read_text()
    copied = {word.split("/excise.service")[0].split("/config.toml")[0].removesuffix("/debian")
              for line in re.findall(r"^cp (?:-a )?(.*)$", script, re.MULTILINE)
              for word in line.split() if not word.startswith('"')}
    assert copied <= allowed
