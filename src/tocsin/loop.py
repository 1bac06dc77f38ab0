"""The loop of a guard: waits until something wakes it or is due, and has that done.

What wakes it: logs that grow, the enforcer, the runner of actions, answers of the DNS, the control socket and signals.
What is due, each part says itself; the loop adds what is to be done from time to time.
"""

from __future__ import annotations

import gc
import selectors
import signal
import time
from typing import TYPE_CHECKING

from tocsin.control import ControlServer
from tocsin.daemon import hear_signals
from tocsin.sources.pressure import read_pressure
from tocsin.steering import Steering

if TYPE_CHECKING:
    import socket

    from tocsin.guard import Watcher

CHECKPOINT_EVERY_S = 5.0
CHECKPOINT_SHARE = 400.0  # a checkpoint that takes long is taken so much more rarely: bans wait for it
HOST_EVERY_S = 30.0
COLLECT_EVERY_S = 3600.0
LONGEST_WAIT_S = 60.0


class Loop:
    """Runs a watcher; `run` returns when told to stop. EOFError when the enforcer has gone."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._selector = watcher.selector
        self._stopping = False
        self._reload_wanted = False
        self._ready = False
        self._checkpoint_due_s = 0.0
        self._host_due_s = time.monotonic() + HOST_EVERY_S
        self._collect_due_s = time.monotonic() + COLLECT_EVERY_S

    def run(self, control: socket.socket) -> None:
        """Watch, and answer at the listening socket `control`, until told to stop."""
        watcher = self._watcher
        server = ControlServer(control, self._selector, Steering(watcher).answer)
        self._register()
        watcher.begin()
        gc.collect()
        gc.freeze()
        gc.disable()  # a full collection over 500,000 keys takes 50 ms; what little cycles there are wait for an hour
        while not self._stopping:
            self._want_writes()
            for key, _ in self._selector.select(self._timeout_s()):
                key.data()
            self._tick()
            server.drop_silent(time.monotonic())
        watcher.stop()

    # -- what wakes it -----------------------------------------------------------------------------------------------

    def _register(self) -> None:
        watcher = self._watcher
        watcher.watching.wait_on(self._selector, watcher.read_logs)
        hear_signals(self._selector, self._on_signal)
        if watcher.jailing is not None:
            watcher.jailing.wait_on(self._selector)
        if watcher.enforcing.enforcer is not None:
            self._selector.register(
                watcher.enforcing.enforcer.fileno(), selectors.EVENT_READ, watcher.enforcing.receive
            )
        if watcher.resolver is not None:
            self._selector.register(watcher.resolver.fileno(), selectors.EVENT_READ, watcher.resolver.receive)

    def _want_writes(self) -> None:
        """Wake as well when a socket takes more, while something waits for that."""
        enforcing, jailing = self._watcher.enforcing, self._watcher.jailing
        if enforcing.enforcer is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if enforcing.wants_write else 0)
            if self._selector.get_key(enforcing.enforcer.fileno()).events != events:
                self._selector.modify(enforcing.enforcer.fileno(), events, self._on_enforcer)
        if jailing is not None:
            jailing.want_writes()

    def _on_enforcer(self) -> None:
        self._watcher.enforcing.flush()
        self._watcher.enforcing.receive()

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload_wanted = True
        else:
            self._stopping = True

    # -- what is due -------------------------------------------------------------------------------------------------

    def _timeout_s(self) -> float:
        watcher = self._watcher
        if watcher.watching.pending:
            return 0.0
        now_s, now_ts = time.monotonic(), time.time()
        due_s = min(watcher.enforcing.due_s(), self._host_due_s, self._collect_due_s)
        if watcher.has_news():
            due_s = min(due_s, self._checkpoint_due_s)
        if watcher.jailing is not None:
            due_s = min(due_s, watcher.jailing.due_s(now_s, now_ts))
        if watcher.resolver is not None:
            due_s = min(due_s, watcher.resolver.due_s())
        return max(0.0, min(due_s - now_s, watcher.watching.due_ts() - now_ts, LONGEST_WAIT_S))

    def _tick(self) -> None:
        watcher = self._watcher
        due_ts = watcher.watching.due_ts()  # asked first: what is due at once is due as of then
        now_s, now_ts = time.monotonic(), time.time()
        if now_ts >= due_ts:
            watcher.read_logs()
        watcher.watching.tick()
        watcher.take_back()
        watcher.enforcing.tick(now_s)
        if watcher.resolver is not None:
            watcher.resolver.ask(watcher.policy.crawlers.take_questions())
            watcher.resolver.tick()
        if watcher.jailing is not None:
            watcher.jailing.tick(now_s, now_ts)
        if now_s >= self._checkpoint_due_s and watcher.has_news():
            self._checkpoint(now_ts)
        if now_s >= self._host_due_s:
            self._host_due_s = now_s + HOST_EVERY_S
            watcher.refresh_host(now_ts)
        if now_s >= self._collect_due_s:
            self._collect_due_s = now_s + COLLECT_EVERY_S
            gc.collect()
        if self._reload_wanted:
            self._reload_wanted = False
            watcher.reload()
        if not self._ready and watcher.enforcing.ready:
            self._ready = True
            watcher.say_ready()

    def _checkpoint(self, now_ts: float) -> None:
        sample = read_pressure(now_ts)  # where the machine suffers, less of an excess is a siege
        if sample is not None:
            self._watcher.crowd.feel(sample)
        began_s = time.monotonic()
        self._watcher.checkpoint()
        now_s = time.monotonic()
        self._checkpoint_due_s = now_s + max(CHECKPOINT_EVERY_S, CHECKPOINT_SHARE * (now_s - began_s))
        if self._watcher.jailing is not None:
            self._watcher.jailing.say_set_aside()
