"""`excise agent`: the only loop. It looks for workloads, watches them, writes their windows, and answers who asks.

Sinks and the metrics' endpoint have threads of their own; nothing here waits for them.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable
from typing import Any, Final

from excise.spool import Spool, agent_id
from excise.stages import Rules
from excise.summary import Summary
from excise_agent.config import Config, needs_restart
from excise_agent.daemon.asked import Asked
from excise_agent.daemon.observed import Observed
from excise_agent.daemon.outbox import Outbox
from excise_agent.daemon.shipping import ListenError, Shipping
from excise_agent.daemon.signals import Signals
from excise_agent.daemon.state import metrics_status, read_state, status_line
from excise_agent.daemon.watching import Settings, Watching
from excise_agent.discovery import Discovery, Found, GpuProcesses, GpuThread, Identity
from excise_agent.host import read_start_ns
from excise_agent.loader import LoadError, Probes, Sizes
from excise_agent.service.control_server import ControlServer
from excise_agent.service.journal import Journal, set_level
from excise_agent.service.notify import Notifier
from excise_agent.sinks.prometheus_status import AgentStatus

PRUNE_S: Final = 60.0
BEAT_S: Final = 5.0  # how often systemd is told, where its watchdog does not want it more often
RETRY_S: Final = (2.0, 60.0)  # between tries to put the probes on: the first, the most

_log = logging.getLogger(__name__)


class Agent:
    """`reload()` gives the configuration as it is now, or raises ConfigError. Raises on the way up whatever prevents
    the service: SpoolError, LoadError, OSError, ControlError, ListenError."""

    def __init__(self, config: Config, reload: Callable[[], Config], notifier: Notifier, journal: Journal) -> None:
        self.config = config
        self.started_ns = time.time_ns()
        self._reload = reload
        self._notifier = notifier
        self._journal = journal
        self._signals = Signals()
        self._wanted: dict[int, Found] = {}  # by pid: what discovery has found and not taken back
        self._next_look_s = self._next_prune_s = self._next_beat_s = 0.0
        self._retry_s, self._retry_at_s = 0.0, 0.0
        self.last_look_ns = 0  # wall clock
        self.trouble = ""  # why the probes are not on; "": they are, or nothing wants them
        self.config_trouble = ""  # why the last reload was refused, or what of it does not run
        rules = Rules.load(config.stages)
        check_probes()
        state_dir = config.agent.state_dir
        self.agent = agent_id(state_dir)
        self.spool = Spool(state_dir / "spool", self.agent, config.history.most_bytes, config.history.keep_s)
        self.outbox = Outbox(self.spool)
        self.watching = Watching(_settings(config, rules), self._emit, self._ended, self._spoil, self._notice)
        self.discovery = Discovery(config.discovery, gpu=GpuThread(GpuProcesses()))
        self._status: AgentStatus | None = None
        self.shipping = Shipping(self.agent, state_dir, lambda: self._status, config.discovery.most_workloads)
        self.shipping.follow(config)
        handlers = Asked(self).handlers
        self.control = ControlServer(config.agent.runtime_dir / "control.sock", config.agent.group, handlers)

    def state(self) -> dict[str, Any]:
        """How it is, for whoever asks. From this thread."""
        return read_state(self)

    def run(self) -> None:
        """Until it is told to stop."""
        self._look()
        self._notifier.ready(status_line(self.state()))
        while not self._signals.stop:
            self._wait()
            if self._signals.take_reload():
                self._take_reload()
            self.control.turn()
            self._turn_watch()
            now = time.monotonic()
            if now >= self._next_look_s:
                self._look()
            if now >= self._next_prune_s:
                self._next_prune_s = now + PRUNE_S
                self.spool.prune()
            self.outbox.expect(len(self.watching.observed))
            self._beat(now)

    def close(self) -> None:
        """Ends the last windows, writes them, and leaves nothing in the kernel."""
        self._notifier.stopping()
        try:
            self.watching.stop("agent stopped")
        except (LoadError, OSError) as error:
            _log.error("the last windows are cut short: %s", error)
        self.outbox.close()
        self.control.close()
        self.shipping.close()
        self.discovery.close()
        self.spool.close()
        self._signals.close()

    # -- parts of the loop

    def _wait(self) -> None:
        now = time.monotonic()
        waits = [self._next_look_s - now, self._next_beat_s - now]
        if (watch_s := self.watching.wait_s()) is not None:
            waits.append(watch_s)
        if (control_s := self.control.timeout_s()) is not None:
            waits.append(control_s)
        signals, control = self._signals.fileno(), self.control.fileno()
        ready, _, _ = select.select([signals, control], [], [], max(min(waits), 0.0))
        if signals in ready:
            self._signals.drain()

    def _turn_watch(self) -> None:
        try:
            self.watching.turn()
        except (LoadError, OSError) as error:
            self._lost_watch(error)

    def _look(self) -> None:
        """Which processes are to be watched; those that are not yet are from here on."""
        try:
            changes = self.discovery.look()
        except OSError as error:
            _log.error("the processes of this host cannot be listed: %s", error)
            self._next_look_s = time.monotonic() + 1.0
            return
        for gone in changes.gone:
            if (known := self._wanted.get(gone.pid)) is not None and known.start_ns == gone.start_ns:
                del self._wanted[gone.pid]
        self._wanted |= {found.pid: found for found in changes.found}
        self._let_go({g.pid for g in changes.gone if g.pid not in self._wanted and _lives(g)})
        self._reach(changes.found)
        self._let_go(self.discovery.ignored)  # a child of one that is watched began as a part of it
        self.last_look_ns = time.time_ns()
        self._next_look_s = time.monotonic() + self.discovery.interval_s

    def _reach(self, found: list[Found]) -> None:
        now = time.monotonic()
        if now < self._retry_at_s:
            return
        watched = self.watching.pids()
        named = {f.pid for f in found}  # may have another workload than before
        wanted = [f for f in self._wanted.values() if f.pid in named or f.pid not in watched]
        wanted = [f for f in wanted if _lives(f)]
        try:
            for observed in self.watching.take(wanted):
                _log.info("watching %s (%s): %s", observed.workload.name, observed.workload.kind, observed.why)
        except (LoadError, OSError) as error:
            self._lost_watch(error)
        else:
            if self.watching.watch is not None and self.trouble:
                _log.info("the probes are on again")
                self.trouble, self._retry_s = "", 0.0

    def _let_go(self, pids: set[int]) -> None:
        try:
            self.watching.let_go(pids)
        except (LoadError, OSError) as error:
            self._lost_watch(error)

    def _lost_watch(self, error: Exception) -> None:
        """Windows that could be ended are; the rest goes on, and it is tried again."""
        self.trouble = str(error)
        least, most = RETRY_S
        self._retry_s = min(max(2 * self._retry_s, least), most)
        self._retry_at_s = time.monotonic() + self._retry_s
        _log.error("the probes are off: %s; they are tried again in %.0f s", error, self._retry_s)
        self.watching.abandon()

    def _beat(self, now: float) -> None:
        if now < self._next_beat_s:
            return
        watchdog_s = self._notifier.watchdog_s
        self._next_beat_s = now + (BEAT_S if watchdog_s is None else min(BEAT_S, watchdog_s / 3))
        self._notifier.watchdog()
        self._journal.turn()
        state = self.state()
        self._notifier.status(status_line(state))
        self._status = metrics_status(self, state)

    # -- what the watch brings

    def _emit(self, observed: Observed, summary: Summary) -> None:
        self.outbox.put(observed.workload, summary)
        self.shipping.take(observed.workload, summary)

    def _ended(self, observed: Observed) -> None:
        _log.info("%s has ended after %d windows", observed.workload.name, observed.windows)
        self.shipping.metrics.forget(observed.workload)

    def _spoil(self, observed: Observed, error: ValueError) -> None:
        self.outbox.spoil()
        _log.error("a window of %s is lost: %s", observed.workload.name, error)

    def _notice(self, text: str) -> None:
        _log.info("%s", text)

    # -- configuration

    def _take_reload(self) -> None:
        """As far as it goes without a restart. A configuration that is wrong changes nothing."""
        self._notifier.reloading()
        try:
            new = self._reload()
            rules = Rules.load(new.stages)
        except ValueError as error:
            self.config_trouble = f"the configuration is not taken: {error}"
            _log.error("%s", self.config_trouble)
        else:
            self.config_trouble = ""
            old, self.config = self.config, new
            self._apply(old, new, rules)
            _log.info("the configuration was read again")
        self._notifier.ready(status_line(self.state()))

    def _apply(self, old: Config, new: Config, rules: Rules) -> None:
        for key in needs_restart(old, new):
            _log.warning("%s: takes effect when the service is restarted", key)
        set_level(new.log.level)
        self.spool.limit(new.history.most_bytes, new.history.keep_s)
        try:
            self.shipping.follow(new)
        except ListenError as error:
            self.config_trouble = str(error)
            _log.error("%s", error)
        try:
            self.watching.change(_settings(new, rules))
        except (LoadError, OSError) as error:
            self._lost_watch(error)
        if old.discovery != new.discovery:
            self.discovery.close()
            self.discovery = Discovery(new.discovery, gpu=GpuThread(GpuProcesses()))
            before, self._wanted = self._wanted, {}
            self._look()
            self._let_go({pid for pid in before if pid not in self._wanted})


def _lives(process: Found | Identity) -> bool:
    return read_start_ns(process.pid) == process.start_ns


def check_probes() -> None:
    """Whether the kernel takes the probes, before anybody is told that the service is ready. Raises LoadError."""
    probes = Probes.load(Sizes())
    try:
        probes.attach()
    finally:
        probes.close()


def _settings(config: Config, rules: Rules) -> Settings:
    agent = config.agent
    return Settings(
        agent.rate_hz, agent.budget_ratio, agent.window_s, config.history.stacks, rules, config.discovery.most_workloads
    )
