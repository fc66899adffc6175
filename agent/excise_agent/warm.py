"""Fills the caches before the first start: `python -m excise_agent.warm`, which the package runs when installed."""

from __future__ import annotations

# before numba is imported, as in cli.py
from excise_agent._numba_cache import compiled_kernels, pin_numba_cache

pin_numba_cache()

import sys  # noqa: E402


def warm() -> str:
    """Compiles kernels and probes into the caches, about 20 s of CPU. Returns why there are no probes, or ""."""
    with compiled_kernels(lambda _: None):
        import excise_agent.agent_command
        import excise_agent.attach_command  # noqa: F401  their imports are all that is compiled
    from excise_agent.loader import LoadError, Probes, Sizes

    try:
        Probes.load(Sizes()).close()
    except LoadError as err:
        return str(err)
    return ""


def main() -> int:
    """0: the first start compiles nothing; 1: the probes could not be loaded here, which standard error says."""
    lost = warm()
    if lost:
        sys.stderr.write(f"excise: {lost}\n")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
