"""The work that a jail's actions make: which steps, in which order, for each thing that happens. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator

from tocsin.fail2ban.actions.actions import sort_actions
from tocsin.fail2ban.actions.commands import Moment, commands_of
from tocsin.fail2ban.actions.moments import Action, Ended, Step, Steps
from tocsin.fail2ban.actions.protocol import Answer, Ask, Run
from tocsin.fail2ban.actions.queues import Queues
from tocsin.fail2ban.actions.shelltext import ShellText, prepare
from tocsin.fail2ban.actions.tickets import is_dynamic
from tocsin.fail2ban.model import ActionSpec, Jail

ASK_TIMEOUT_S = 10.0

Work = Generator[Step, Ended, None]


class JailWork:
    """A jail's actions that are run, and its `ignorecommand`. `on_restart` hears of actions that forgot their bans."""

    def __init__(self, jail: Jail, on_restart: Callable[[str, str], None]) -> None:
        self.name = jail.name
        self.specs: tuple[ActionSpec, ...] = sort_actions(jail).run
        self.actions = [Action(commands_of(spec)) for spec in self.specs]
        self.ignorecommand: ShellText | None = None
        if jail.ignorecommand:
            self.ignorecommand = prepare(jail.ignorecommand, is_dynamic)
        self._on_restart = on_restart

    @property
    def forgets(self) -> bool:
        """Whether an action undoes its bans when it is stopped."""
        return any(action.forgets for action in self.actions)

    def start(self) -> Work:
        """The jail is at work now."""
        yield from self._each(lambda action: action.start())

    def reload(self) -> Work:
        """The jail is as it was after a reload."""
        yield from self._each(lambda action: action.reload())

    def end(self, *, flush: bool) -> Work:
        """The jail is stopped; with `flush` its bans are undone first, where that can be done at once."""
        for action in reversed(self.actions):
            if flush:
                yield from self._one(action, action.flush())
            yield from self._one(action, action.stop())

    def run(self, message: Run) -> Work:
        """Somebody is banned, for longer, or no longer."""
        ticket = message.ticket
        if message.what == "unban":
            yield from self._each(lambda action: action.unban(ticket))
        else:
            moment: Moment = "actionban" if message.what == "ban" else "actionprolong"
            yield from self._each(lambda action: action.ban(ticket, moment))

    def _each(self, what: Callable[[Action], Steps]) -> Work:
        """All actions, one after the other; that one of them fails does not concern the next."""
        for action in self.actions:
            yield from self._one(action, what(action))

    def _one(self, action: Action, steps: Steps) -> Work:
        lost = action.lost
        yield from steps
        if action.lost > lost:
            self._on_restart(self.name, action.name)


class Job:
    """Work under way in a lane of `queues`. `said` is what the last command said about its end."""

    __slots__ = ("lane", "queues", "said", "work")

    def __init__(self, lane: str, queues: Queues[Job], work: Work | None = None) -> None:
        self.lane = lane
        self.queues = queues
        self.work: Work = iter_nothing() if work is None else work
        self.said = ""


def asking(job: Job, text: ShellText, message: Ask, answer: Callable[[Answer], None]) -> Work:
    """The work of one question: `ignorecommand`, whose exit code 0 means to ignore, 1 not to."""
    ended = yield Step("ignorecommand", "ignorecommand", text, message.ticket, ASK_TIMEOUT_S)
    if ended in ("ok", "no"):
        answer(Answer(message.id, ended == "ok"))
    else:
        answer(Answer(message.id, None, job.said))


def iter_nothing() -> Work:
    """No steps."""
    yield from ()
