"""`excise agent`: builds the daemon and turns what can go wrong on the way up into one sentence."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from excise.cli import EXIT_NO, EXIT_PERMISSION, EXIT_USAGE, CliError
from excise.spool import SpoolError
from excise.stages import RulesError
from excise_agent.config import Config, ConfigError, load_config
from excise_agent.daemon.agent import Agent
from excise_agent.loader import LoadError
from excise_agent.service.journal import start_logging
from excise_agent.service.notify import Notifier
from excise_agent.service.socket_file import SocketError
from excise_agent.sinks.prometheus_listen import ListenError

_log = logging.getLogger(__name__)


def run_agent(config_file: Path | None, overrides: Mapping[str, str]) -> None:
    """Until it is told to stop. Raises CliError: usage, what another start does not change; no, what it may."""
    environ = dict(os.environ)
    notifier = Notifier(os.environ)

    def load() -> Config:
        return load_config(config_file, environ, overrides)

    try:
        config = load()
        journal = start_logging(config.log.level)
        agent = Agent(config, load, notifier, journal)
    except PermissionError as error:
        raise CliError(f"{error.filename or 'the kernel'}: {error.strerror}: run as root", EXIT_PERMISSION) from error
    except (ConfigError, RulesError) as error:
        raise CliError(str(error), EXIT_USAGE) from error
    except (SpoolError, SocketError, ListenError, LoadError) as error:  # may be otherwise the next time
        raise CliError(str(error), EXIT_NO) from error
    except OSError as error:
        raise CliError(f"the agent cannot start: {error}", EXIT_NO) from error
    try:
        agent.run()
    finally:
        agent.close()
        notifier.close()
    _log.info("stopped")
