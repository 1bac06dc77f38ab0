"""The watcher's side of the runner: tells the jails' other actions who is banned and who no more, and hears of them.

Nothing here waits, and nothing here can hold up a ban. A runner that has died is replaced by the supervisor at the same
socket; what it was told and had not done is told again to the next one, so an action may run twice for one ban, but is
not left out.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tocsin.fail2ban.actions.actions import sort_actions
from tocsin.fail2ban.actions.client import Actions
from tocsin.fail2ban.actions.protocol import Answer, Dropped, FromRunner, Ready, Report, Resolved, Restarted, Stopped

if TYPE_CHECKING:
    import socket

    from tocsin.fail2ban.actions.tickets import Ticket
    from tocsin.fail2ban.model import ActionSpec, Jail

REPORTS_KEPT = 50

What = Literal["ban", "unban", "prolong"]


class Bans(Protocol):
    """Who knows the bans in force, and which runner was told of each."""

    def tickets(self, jail: str, *, every: bool) -> Iterator[Ticket]:
        """Draw a jail's tickets, noted as told: of bans that this runner was not told of, or (not `every`) nobody."""

    def forget(self, jail: str) -> None:
        """What this runner was told of the jail's bans is lost."""


class Acting:
    """The jails' actions at work."""

    def __init__(self, sock: socket.socket, say: Callable[..., None], bans: Bans) -> None:
        self.actions = Actions(sock)
        self.reports: deque[dict[str, Any]] = deque(maxlen=REPORTS_KEPT)
        self._say = say
        self._bans = bans
        self._specs: dict[str, tuple[ActionSpec, ...]] = {}
        self._begun: dict[str, tuple[ActionSpec, ...]] = {}
        self._runner = 0
        self._notes: tuple[str, ...] = ()
        self._untold: dict[str, deque[tuple[What, Ticket]]] = {}
        self._gone = False
        self._stopped = False

    @property
    def runner(self) -> int:
        """The how-manieth runner is at work, from 1; the first one reads all that was sent before it came."""
        return max(1, self.actions.greetings)

    def begin(self, jails: Sequence[Jail]) -> None:
        """These jails are at work; also after a reload."""
        self._specs = {jail.name: sort_actions(jail).run for jail in jails}
        self.actions.begin([jail.name for jail in jails])

    def acts(self, jail: str) -> bool:
        """Whether the jail has actions that are run."""
        return bool(self._specs.get(jail))

    def run(self, jail: str, what: What, ticket: Ticket) -> None:
        """Tell the jail's actions; what cannot be handed over is counted."""
        if self.actions.run(jail, what, ticket):
            self._untold.setdefault(jail, deque()).append((what, ticket))

    def restore(self, jail: str) -> None:
        """Tell the jail's actions, behind all that is new, of bans in force that they should know of."""
        self.actions.restore(jail, self._bans.tickets(jail, every=self._forgets(jail)))

    def _forgets(self, jail: str) -> bool:
        """Whether a stopped action of the jail has undone its bans, so that the next one is told of all."""
        return self.actions.ready is not None and jail in self.actions.ready.forgetful

    # -- what the runner says ----------------------------------------------------------------------------------------

    def receive(self) -> Iterator[Answer | Resolved]:
        """Take in what has come; what concerns others is handed out."""
        messages = self.actions.receive()
        if self.actions.greetings != self._runner:
            self._on_runner()
        for message in messages:
            if isinstance(message, Answer | Resolved):
                yield message
            else:
                self._take(message)
        for jail, told in self._untold.items():
            while len(told) > self.actions.waiting(jail):
                told.popleft()
        if self.actions.gone and not self._gone:
            self._gone = True
            self._say("actions", "the runner of actions is gone for good: actions are not run; bans go on")

    def _on_runner(self) -> None:
        """Another runner is at work, and has been told which jails are."""
        first, self._runner = self._runner == 0, self.actions.greetings
        if first:
            return
        self._begun = {}
        untold, self._untold = self._untold, {}
        for jail, rows in untold.items():
            for what, ticket in rows:
                if what == "unban" or not self._forgets(jail):
                    self.run(jail, what, ticket)
        self._say("actions", "another runner of actions is at work; what the one before had not done is done now")

    def _take(self, message: FromRunner) -> None:
        if isinstance(message, Ready):
            self._on_ready(message)
        elif isinstance(message, Report):
            more = f" ({message.more} more like this went unsaid)" if message.more else ""
            fields = {name: getattr(message, name) for name in ("jail", "action", "moment", "kind", "more")}
            self._say("action", f"jail {message.text}{more}", **fields)
            self.reports.append({"ts": time.time(), "text": message.text, **fields})
        elif isinstance(message, Dropped):
            text = f"jail {message.jail}: its actions are too slow; {message.bans} bans and {message.unbans} unbans "
            self._say("actions", f"{text}were not told to them so far; the bans themselves are in force")
        elif isinstance(message, Restarted):
            text = f"jail {message.jail}: {message.action} had to be started anew; it is told of the bans in force"
            self._say("actions", text, jail=message.jail)
            self._bans.forget(message.jail)
            self.restore(message.jail)
        elif isinstance(message, Stopped):
            self._stopped = True

    def _on_ready(self, ready: Ready) -> None:
        for note in ready.notes:
            if note not in self._notes:
                self._say("actions", note)
        self._notes = ready.notes
        for jail in ready.missing:
            self._say(
                "actions",
                f"jail {jail}: the runner's configuration has no such jail; its actions are not run",
                jail=jail,
            )
        for jail in ready.forgetful:
            if self._begun.get(jail) == self._specs.get(jail):
                continue
            if jail in self._begun:
                self._bans.forget(jail)
            self.restore(jail)
        self._begun = dict(self._specs)

    # -- for people, and the end -------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """See `docs/json.md`."""
        ready = self.actions.ready
        return {
            "user": ready.user if ready else None,
            "ok": ready is not None and not self.actions.gone,
            "running": ready.actions if ready else 0,
            "started": self.actions.greetings,
            "notes": list(ready.notes) if ready else [],
            "missing": list(ready.missing) if ready else [],
            **self.actions.totals(),
            "reports": list(self.reports),
        }

    def stop(self) -> None:
        """Have every `actionstop` run; `wait_stopped` waits for that."""
        self.actions.stop()

    def wait_stopped(self, within_s: float) -> None:
        """Until all has been stopped, or the time is over."""
        until_s = time.monotonic() + within_s
        while not self._stopped and not self.actions.gone and (left_s := until_s - time.monotonic()) > 0:
            writers = [self.actions] if self.actions.queued else []
            readable, writable, _ = select.select([self.actions], writers, [], left_s)
            if writable:
                self.actions.flush()
            if readable:
                for _ in self.receive():
                    pass
        self.actions.close()
