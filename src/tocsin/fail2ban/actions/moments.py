"""An action's life in the runner: started, bans and unbans, repaired, stopped. Pure: it asks for commands to be run.

A method is a generator of Steps; what is sent back is how the command ended, what is returned whether all went well.
As in fail2ban 1.0: `actionstart` runs at the start, or with a family's first ban where the action depends on the
family or says `actionstart_on_demand`; `actioncheck` runs after a failure only, and if it fails too, `actionrepair`,
or `actionstop` and `actionstart`; then the command is tried once more. A command that ran into its
time-out, or that may not be run, is not.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from msgspec import Struct

from tocsin.fail2ban.actions.commands import Commands, Moment
from tocsin.fail2ban.actions.shelltext import ShellText
from tocsin.fail2ban.actions.tickets import Ticket, family_of

# Exit code 0; 1; another one, or a signal; the time-out; not run at all.
Ended = Literal["ok", "no", "failed", "timeout", "refused"]
NOBODY = Ticket(fid="")


class Step(Struct, frozen=True):
    """One command to be run, on account of whom; `action` and `moment` say which it is."""

    action: str
    moment: Moment | Literal["ignorecommand"]
    text: ShellText
    ticket: Ticket
    timeout_s: float


Steps = Generator[Step, Ended, bool]


class Action:
    """One action of one jail. `lost` counts how often it had to be started anew, and forgot whom it had banned."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.lost = 0
        self._started: dict[str, ShellText | None] = {}
        self._holding: set[str] = set()

    @property
    def name(self) -> str:
        """Its unique name in the jail."""
        return self.commands.action

    @property
    def forgets(self) -> bool:
        """Whether stopping it undoes its bans, so that it wants to be told of those in force at its next start."""
        return any("actionstop" in texts or "actionflush" in texts for texts in self.commands.texts.values())

    def start(self) -> Steps:
        """At the start of the jail. Nothing where it is started on demand."""
        good = True
        if not self.commands.on_demand:
            for family in self.commands.families():
                started = yield from self._start(family)
                good = good and started
        return good

    def ban(self, ticket: Ticket, moment: Moment = "actionban") -> Steps:
        """Somebody is banned (`actionban`), once more (`actionreban`), or for longer (`actionprolong`)."""
        if ticket.restored and self.commands.norestored:
            return True
        family = self._family(ticket)
        if moment == "actionreban" and self.commands.text(moment, family) is None:
            moment = "actionban"
        if self.commands.on_demand and family not in self._started:
            started = yield from self._start(family)
            if not started:
                return False
        done = yield from self._try(moment, family, ticket)
        if done:
            self._holding.add(family)
        return done

    def unban(self, ticket: Ticket) -> Steps:
        """A ban is over. Nothing where the action has banned nobody since its start, as fail2ban does it.

        A `restored` ticket tells of a ban that an earlier start has put in; then it is undone all the same.
        """
        family = self._family(ticket)
        if family not in self._holding and not ticket.restored:
            return True
        return (yield from self._try("actionunban", family, ticket))

    def flush(self) -> Steps:
        """Undo all bans at once, where it can."""
        good = True
        for family in sorted(self._holding):
            text = self.commands.text("actionflush", family)
            if text is not None:
                ended = yield self._step("actionflush", text, family)
                good = good and ended == "ok"
        self._holding.clear()
        return good

    def stop(self) -> Steps:
        """At the end of the jail, for each family that was started."""
        good = True
        for family in tuple(self._started):
            stopped = yield from self._stop(family)
            good = good and stopped
        return good

    def reload(self) -> Steps:
        """The configuration was read again, and the action is as it was."""
        good = True
        for family in tuple(self._started):
            text = self.commands.text("actionreload", family)
            if text is not None:
                ended = yield self._step("actionreload", text, family)
                good = good and ended == "ok"
        return good

    def _family(self, ticket: Ticket) -> str:
        """The family whose commands are meant: the ticket's where they differ."""
        family = family_of(ticket)
        return family if family in self.commands.texts else self.commands.families()[0]

    def _step(self, moment: Moment, text: ShellText, family: str, ticket: Ticket = NOBODY) -> Step:
        if ticket is NOBODY and family:
            ticket = Ticket(fid="", ip="::" if family == "inet6" else "0.0.0.0")  # noqa: S104  it only tells <family>
        return Step(self.name, moment, text, ticket, self.commands.timeout_s)

    def _start(self, family: str) -> Steps:
        text = self.commands.text("actionstart", family)
        if text is not None and text not in self._started.values():  # the same for both families: once is enough
            ended = yield self._step("actionstart", text, family)
            if ended != "ok":
                return False
        self._started[family] = text
        return True

    def _stop(self, family: str) -> Steps:
        self._started.pop(family, None)
        self._holding.discard(family)
        text = self.commands.text("actionstop", family)
        if text is None or any(self.commands.text("actionstop", other) == text for other in self._started):
            return True
        return (yield self._step("actionstop", text, family)) == "ok"

    def _try(self, moment: Moment, family: str, ticket: Ticket) -> Steps:
        text = self.commands.text(moment, family)
        if text is None:
            return True
        ended = yield self._step(moment, text, family, ticket)
        if ended not in ("no", "failed"):
            return ended == "ok"
        sane = yield from self._check(family, repair=moment != "actionunban" or self.commands.repair_on_unban)
        if not sane:
            return False
        return (yield self._step(moment, text, family, ticket)) == "ok"

    def _check(self, family: str, *, repair: bool) -> Steps:
        """Whether the action can work, perhaps after a repair."""
        check = self.commands.text("actioncheck", family)
        if check is None or (yield self._step("actioncheck", check, family)) == "ok":
            return True
        if not repair:
            return False
        text = self.commands.text("actionrepair", family)
        if text is not None:
            if (yield self._step("actionrepair", text, family)) != "ok":
                return False
        else:
            yield from self._stop(family)
            self.lost += 1
            started = yield from self._start(family)
            if not started:
                return False
        return (yield self._step("actioncheck", check, family)) == "ok"
