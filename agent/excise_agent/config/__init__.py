"""The agent's configuration: TOML, the environment and the command line, in one typed value."""

from excise_agent.config.schema import Config

__all__ = ["Config"]
