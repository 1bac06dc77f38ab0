"""The watcher's end of the runner: hands over bans, questions and names, and never waits.

Nothing here raises where the runner is gone, slow or broken: a ban must not care. What could not be handed over is
counted. The supervisor starts another runner at the same socket; it says so, and is told to begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from tocsin.fail2ban.actions.actions import sort_actions
from tocsin.fail2ban.actions.protocol import (
    Ask,
    Begin,
    Done,
    Dropped,
    FromRunner,
    Link,
    ProtocolError,
    Ready,
    Resolve,
    Run,
    Stop,
)
from tocsin.fail2ban.actions.tickets import Ticket, bound

if TYPE_CHECKING:
    import socket

    from tocsin.fail2ban.model import Jail

RESTORING_AT_ONCE = 20
_NAMES_PER_MESSAGE = 50


def wants_runner(jails: Iterable[Jail]) -> bool:
    """Whether any of the jails has something for a runner to do."""
    return any(
        jail.ignorecommand or sort_actions(jail).run or any(_may_be_name(entry) for entry in jail.ignoreip)
        for jail in jails
    )


def _may_be_name(entry: str) -> bool:
    return ":" not in entry and any(char.isalpha() for char in entry)


class Actions:
    """A runner as the watcher sees it.

    Wait on it (`fileno`) for reading, and for writing while `queued` is not 0; then `flush` and `receive`.
    """

    def __init__(self, sock: socket.socket, *, max_queued: int = 2000) -> None:
        self._link: Link[FromRunner] = Link(sock, FromRunner, max_queued=max_queued)
        self._jails: tuple[str, ...] | None = None
        self._id = 0
        self._sent: dict[str, int] = {}
        self._through: dict[str, int] = {}
        self._restoring: dict[str, Iterator[Ticket]] = {}
        self.greetings = 0
        """How many runners have begun here, one after the other."""
        self.gone = False
        """The runner has hung up or talks nonsense, and nothing is handed over any more."""
        self.unsent: dict[str, int] = {}
        """By jail: what could not be handed over."""
        self.dropped: dict[str, tuple[int, int]] = {}
        """By jail: bans and unbans that the runner's queue had no room for."""
        self.ready: Ready | None = None
        """What the runner said of itself when it last began."""

    def fileno(self) -> int:
        """The socket to wait on."""
        return self._link.fileno()

    @property
    def queued(self) -> int:
        """Messages that the socket has not taken; while it is not 0, call `flush` when the socket can be written."""
        return 0 if self.gone else self._link.queued

    def close(self) -> None:
        """Hang up; the runner ends, and what it runs is killed."""
        self.gone = True
        self._link.close()

    def begin(self, jails: Sequence[str]) -> None:
        """These jails are at work; also after a reload, when those that are not named any more are stopped."""
        self._jails = tuple(jails)
        self._push(Begin(self._jails))

    def run(self, jail: str, what: Literal["ban", "unban", "prolong"], ticket: Ticket) -> bool:
        """Have the jail's actions told; False (and counted) where that could not be handed over."""
        if what == "unban":
            ticket = Ticket(fid=ticket.fid, ip=ticket.ip, ts=ticket.ts, fields=ticket.fields, restored=ticket.restored)
        missing = self.ready is not None and jail in self.ready.missing
        if missing or not self._push(Run(jail, what, bound(ticket))):
            self.unsent[jail] = self.unsent.get(jail, 0) + 1
            return False
        self._sent[jail] = self._sent.get(jail, 0) + 1
        return True

    def waiting(self, jail: str) -> int:
        """How many of the jail's bans and unbans are not through yet."""
        return max(0, self._sent.get(jail, 0) - self._through.get(jail, 0))

    def restore(self, jail: str, tickets: Iterable[Ticket]) -> None:
        """Tell the jail's actions of bans in force, a few at a time as they get through, behind all that is new.

        `tickets` is drawn from as there is room: it should say `restored=True`, and may skip what has ended since.
        """
        self._restoring[jail] = iter(tickets)
        self._feed(jail)

    def ask(self, jail: str, ticket: Ticket) -> int | None:
        """Have the jail's `ignorecommand` run; the id that the Answer will carry, None where nobody can be asked."""
        self._id += 1
        return self._id if self._push(Ask(self._id, jail, bound(ticket))) else None

    def resolve(self, names: Sequence[str]) -> bool:
        """Have host names looked up; False where nobody can be asked."""
        good = True
        for start in range(0, len(names), _NAMES_PER_MESSAGE):
            good = self._push(Resolve(tuple(names[start : start + _NAMES_PER_MESSAGE]))) and good
        return good

    def stop(self) -> bool:
        """Have every `actionstop` run; wait for Stopped as long as there is time. False where nobody hears it."""
        self._restoring.clear()
        return self._push(Stop())

    def flush(self) -> None:
        """Send what the socket takes now."""
        if not self.gone:
            try:
                self._link.flush()
            except OSError:
                self.gone = True

    def receive(self) -> list[FromRunner]:
        """What has come, in order, perhaps nothing. Done and the first Ready are dealt with here."""
        if self.gone:
            return []
        try:
            messages = self._link.receive()
        except (EOFError, OSError, ProtocolError):
            self.gone = True
            return []
        return [message for message in messages if self._is_news(message)]

    def totals(self) -> Mapping[str, int]:
        """For `status`: what waits, could not be handed over, and found no room, all jails together."""
        return {
            "waiting": sum(self.waiting(jail) for jail in self._sent),
            "unsent": sum(self.unsent.values()),
            "dropped": sum(bans + unbans for bans, unbans in self.dropped.values()),
        }

    def _is_news(self, message: FromRunner) -> bool:
        if isinstance(message, Done):
            self._through[message.jail] = message.count
            self._feed(message.jail)
            return False
        if isinstance(message, Dropped):
            self.dropped[message.jail] = (message.bans, message.unbans)
        elif isinstance(message, Ready):
            if not message.began:
                self._begin_anew()
                return False
            self.ready = message
        return True

    def _begin_anew(self) -> None:
        """A new runner knows nothing of what was handed to one before it, and counts from 0."""
        self.greetings += 1
        if self.greetings == 1:
            return  # what was sent so far waits for it in the socket
        self._sent.clear()
        self._through.clear()
        self.dropped.clear()
        if self._jails is not None:
            self.begin(self._jails)

    def _feed(self, jail: str) -> None:
        """Hand over more of the bans in force, as long as few are under way."""
        tickets = self._restoring.get(jail)
        while tickets is not None and self.waiting(jail) < RESTORING_AT_ONCE:
            ticket = next(tickets, None)
            if ticket is None or not self.run(jail, "ban", ticket):
                self._restoring.pop(jail, None)
                return

    def _push(self, message: Begin | Run | Ask | Resolve | Stop) -> bool:
        if self.gone:
            return False
        try:
            return self._link.push(message)
        except OSError:
            self.gone = True
            return False
