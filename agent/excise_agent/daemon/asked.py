"""What may be asked of the agent through its control socket. Who may ask, the server has checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from excise import __version__
from excise_agent.daemon.taps import Wish
from excise_agent.loader import LoadError
from excise_agent.service.control_server import Handler
from excise_agent.service.control_stream import Refusal, Reply, Request, Stream
from excise_agent.service.peer import Peer

if TYPE_CHECKING:
    from excise_agent.daemon.agent import Agent

MOST_PID: Final = 1 << 22
MOST_DURATION_S: Final = 7 * 86_400.0
MOST_RATE_HZ: Final = 1000.0


class Asked:
    """`handlers`: by operation."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {"ping": self._ping, "status": self._status, "attach": self._attach}

    def _ping(self, request: Request, peer: Peer) -> Reply:
        return {"version": __version__}

    def _status(self, request: Request, peer: Peer) -> Reply:
        return self._agent.state()

    def _attach(self, request: Request, peer: Peer) -> Stream:
        """A part of the stream as a recording. A process that is not watched is refused as "not_watched"."""
        budget = request.fields.get("budget_ratio")
        wish = Wish(
            pid=request.whole("pid", 1, MOST_PID),
            duration_s=request.number("duration_s", 0.05, MOST_DURATION_S),
            rate_hz=request.number("rate_hz", 0.0, MOST_RATE_HZ),
            budget_ratio=None if budget is None else request.number("budget_ratio", 0.0001, 1.0),
            children=request.flag("children", True),
        )
        stream = Stream({"version": __version__})
        try:
            watched = self._agent.watching.tap(wish, stream)
        except (LoadError, OSError) as error:
            raise Refusal("failed", f"the watch cannot be changed: {error}") from error
        if not watched:
            raise Refusal("not_watched", f"process {wish.pid} is not watched by the agent")
        return stream
