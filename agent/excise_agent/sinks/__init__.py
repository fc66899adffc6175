"""Where summaries go: each sink carries them to one server, in a thread of its own. See docs/shipping.md."""

from excise_agent.sinks.sink import AgentInfo, Sink, SinkError

__all__ = ["AgentInfo", "Sink", "SinkError"]
