"""The agent's configuration: TOML, the environment and the command line, in one typed value.

Of libraries that check a schema, msgspec and pydantic were looked at (2026-11): neither knows a file's lines, and
msgspec ends at the first error.
"""

from excise_agent.config.errors import ConfigError, Problem
from excise_agent.config.load import Loaded, load, load_config
from excise_agent.config.schema import Config
from excise_agent.config.words import needs_restart

__all__ = ["Config", "ConfigError", "Loaded", "Problem", "load", "load_config", "needs_restart"]
