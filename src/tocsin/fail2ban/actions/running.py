"""The runner's loop: jails side by side, each in order; commands as processes, bounded in time, number and output."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence

from tocsin.config_model import ConfigErrors
from tocsin.fail2ban.actions.jobs import JailWork, Job, Work, asking
from tocsin.fail2ban.actions.lookups import Lookups
from tocsin.fail2ban.actions.moments import Ended, Step
from tocsin.fail2ban.actions.process import Process
from tocsin.fail2ban.actions.protocol import (
    Answer,
    Ask,
    Begin,
    Done,
    Dropped,
    FromRunner,
    Kind,
    Link,
    Ready,
    Report,
    Resolve,
    Resolved,
    Restarted,
    Run,
    Stopped,
    ToRunner,
)
from tocsin.fail2ban.actions.queues import Queues
from tocsin.fail2ban.actions.tickets import Host, render
from tocsin.fail2ban.model import Jail

LANE_MAX = 1000
LANE_UNBANS_MAX = 20_000
ASKS_MAX = 500  # of a jail, waiting or under way
NAME_WITHIN_S = 5.0
REPORT_EVERY_S = 10.0
TO_BE_SENT_MAX = 20_000
UNREADABLE = "the configuration of fail2ban cannot be read again"
DRAINED_MAX = 64  # outputs of what commands left running in the background


class Current:
    """A job's present step: a process, or (`process` None) waiting for the name of an address until `name_due_s`."""

    __slots__ = ("job", "name_due_s", "process", "step")

    def __init__(self, job: Job, step: Step) -> None:
        self.job = job
        self.step = step
        self.process: Process | None = None
        self.name_due_s = float("inf")


class Runner:
    """The loop and what it has in hand. `directory` is where commands are run, `load` reads the configuration."""

    def __init__(
        self,
        sock: socket.socket,
        load: Callable[[], Sequence[Jail]],
        directory: str,
        user: str,
        notes: Sequence[str] = (),
    ) -> None:
        self._link: Link[ToRunner] = Link(sock, ToRunner, max_queued=TO_BE_SENT_MAX)
        self._load = load
        self._directory = directory
        self._user = user
        self._notes = tuple(notes)
        self._host = Host(socket.getfqdn(), socket.gethostname())
        self._jails: dict[str, JailWork] = {}
        self._configured: dict[str, Jail] = {}
        self._stopping = False
        self._queues: Queues[Job] = Queues(LANE_MAX, LANE_UNBANS_MAX)
        self._asks: Queues[Job] = Queues(1, 1)
        self._current: list[Current] = []
        self._drained: dict[int, Process] = {}
        self._lookups = Lookups()
        self._reported: dict[tuple[str, str, str, str], tuple[float, int]] = {}
        self._told: dict[str, tuple[int, int, int]] = {}
        self._selector = selectors.DefaultSelector()
        self._children_in, self._children_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Run until the watcher hangs up (EOFError) or breaks the protocol (ProtocolError)."""
        signal.set_wakeup_fd(self._children_out, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._selector.register(self._children_in, selectors.EVENT_READ)
        self._selector.register(self._lookups.fileno(), selectors.EVENT_READ)
        self._selector.register(self._link.fileno(), selectors.EVENT_READ)
        self._say(Ready(self._user, began=False, notes=self._notes))
        while True:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._link.queued else 0)
            self._selector.modify(self._link.fileno(), wanted)
            for key, events in self._selector.select(self._wait_s()):
                self._on_event(key.fd, events)
            self._reap()
            self._start_waiting()
            self._tell()
            if self._stopping and self._queues.idle:
                self._stopping = False
                self._say(Stopped())

    def close(self) -> None:
        """End what runs, and hang up."""
        for current in self._current:
            if current.process is not None:
                current.process.kill()
        signal.set_wakeup_fd(-1)
        self._link.close()

    # -- what comes in -----------------------------------------------------------------------------------------------

    def _on_event(self, descriptor: int, events: int) -> None:
        if descriptor == self._link.fileno():
            if events & selectors.EVENT_WRITE:
                self._link.flush()
            if events & selectors.EVENT_READ:
                for message in self._link.receive():
                    self._on_message(message)
        elif descriptor == self._children_in:
            with contextlib.suppress(BlockingIOError):
                os.read(self._children_in, 4096)
        elif descriptor == self._lookups.fileno():
            self._take_lookups()
        else:
            self._read_output(descriptor)

    def _on_message(self, message: ToRunner) -> None:
        if isinstance(message, Run):
            self._on_run(message)
        elif isinstance(message, Ask):
            self._on_ask(message)
        elif isinstance(message, Resolve):
            for name in message.names:
                found = self._lookups.ask("addresses", name, time.monotonic())
                if found is not None:
                    self._say(Resolved(name, found.answer))
        elif isinstance(message, Begin):
            self._begin(message.jails)
        else:
            self._stop()

    def _on_run(self, message: Run) -> None:
        jail = self._jails.get(message.jail)
        if jail is not None:
            late = message.what == "unban" or message.ticket.restored
            self._queues.put(jail.name, Job(jail.name, self._queues, jail.run(message)), late=late)

    def _on_ask(self, message: Ask) -> None:
        jail = self._jails.get(message.jail)
        if jail is None or jail.ignorecommand is None:
            self._say(Answer(message.id, None, "this jail has no ignorecommand"))
            return
        # A lane for each question: they are independent of each other, and one that hangs holds up nobody.
        job = Job(f"{message.jail}/{message.id % ASKS_MAX}", self._asks)
        job.work = asking(job, jail.ignorecommand, message, self._say)
        if not self._asks.put(job.lane, job):
            self._say(Answer(message.id, None, "too many questions wait already"))

    def _begin(self, names: Sequence[str]) -> None:
        self._read_configuration()
        known = self._configured
        wanted = {name: JailWork(known[name], self._on_restart) for name in names if name in known}
        for name, old in list(self._jails.items()):
            new = wanted.get(name)
            if new is None or new.specs != old.specs:
                self._put(name, old.end(flush=new is None))
                del self._jails[name]
        for name, new in wanted.items():
            kept = self._jails.setdefault(name, new)
            kept.ignorecommand = new.ignorecommand
            self._put(name, new.start() if kept is new else kept.reload())
        actions = sum(len(jail.actions) for jail in self._jails.values())
        forgetful = tuple(name for name, jail in self._jails.items() if jail.forgets)
        missing = tuple(name for name in names if name not in wanted)
        ready = Ready(self._user, True, self._notes, actions, forgetful, missing)
        self._say(ready)

    def _read_configuration(self) -> None:
        """Read it anew; where that cannot be done it stays as it was, and Ready says so."""
        notes = tuple(note for note in self._notes if not note.startswith(UNREADABLE))
        try:
            self._configured = {jail.name: jail for jail in self._load()}
        except (ConfigErrors, OSError) as error:
            notes = (
                *notes,
                f"{UNREADABLE} ({error}); actions stay as they were: restart guard to have it read as root",
            )
        self._notes = notes

    def _put(self, name: str, work: Work) -> None:
        """Work of our own, beyond the bounds of what the watcher may have waiting; it is not counted as done."""
        self._queues.put(name, Job(name, self._queues, work), late=True)
        self._queues.lane(name).done -= 1

    def _on_restart(self, jail: str, action: str) -> None:
        self._say(Restarted(jail, action))

    def _stop(self) -> None:
        """Leave out what waits, and run every actionstop."""
        self._stopping = True
        for name in self._queues.lanes:
            self._queues.clear(name)
        for name, jail in self._jails.items():
            self._put(name, jail.end(flush=False))
        self._jails = {}

    # -- what runs ---------------------------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        for queues in (self._queues, self._asks):
            while (job := queues.next(time.monotonic())) is not None:
                self._advance(job, None)

    def _advance(self, job: Job, ended: Ended | None) -> None:
        """On to the next step that can be started, or to the end."""
        while True:
            try:
                step = next(job.work) if ended is None else job.work.send(ended)
            except StopIteration:
                job.queues.finished(job.lane)
                return
            current = Current(job, step)
            ended = self._launch(current)
            if ended is None:
                self._current.append(current)
                return

    def _launch(self, current: Current) -> Ended | None:
        """Start the step, or wait for the name that it wants; how it ended where that is known at once."""
        step, job = current.step, current.job
        name = self._name_for(current)
        if name is None:
            return None
        try:
            text, variables = render(step.text, step.ticket, job.lane.partition("/")[0], self._host, name)
        except ValueError as error:
            self._report(current, "refused", f"not run: {error}")
            return "refused"
        try:
            process = Process(text, variables, self._directory, step.timeout_s, time.monotonic())
        except OSError as error:
            self._report(current, "failed", f"cannot be started: {error.strerror}")
            return "failed"
        current.process = process
        self._selector.register(process.fileno(), selectors.EVENT_READ, process)
        return None

    def _name_for(self, current: Current) -> str | None:
        """The address's name where the text wants it, None where it is being looked up (for NAME_WITHIN_S)."""
        ip = current.step.ticket.ip
        if not ip or not any(place.tag == "ip-host" for place in current.step.text.places):
            return ""
        now_s = time.monotonic()
        if now_s >= current.name_due_s:
            return ""
        found = self._lookups.ask("name", ip, now_s)
        if found is not None:
            return found.answer[0] if found.answer else ""
        current.name_due_s = min(current.name_due_s, now_s + NAME_WITHIN_S)
        return None

    def _take_lookups(self) -> None:
        for found in self._lookups.take(time.monotonic()):
            if found.kind == "addresses":
                self._say(Resolved(found.asked, found.answer))
        self._go_on_with_names()

    def _go_on_with_names(self) -> None:
        for current in [one for one in self._current if one.process is None]:
            ended = self._launch(current)
            if ended is not None:
                self._current.remove(current)
                self._advance(current.job, ended)

    def _reap(self) -> None:
        now_s = time.monotonic()
        if any(current.process is None and current.name_due_s <= now_s for current in self._current):
            self._go_on_with_names()
        for current in list(self._current):
            process = current.process
            if process is None:
                continue
            ended = process.poll()
            if ended is not None:
                self._current.remove(current)
                self._drain(process)
                self._judge(current, process, ended)
            elif process.due_s <= now_s:
                process.expire(now_s)

    def _judge(self, current: Current, process: Process, ended: Ended) -> None:
        """A command has ended: say so where that is of interest, and go on."""
        moment = current.step.moment
        current.job.said = process.tell(ended)
        if ended == "timeout":
            self._report(current, "timeout", current.job.said)
        elif ended == "failed" or (ended == "no" and moment not in ("actioncheck", "ignorecommand")):
            self._report(current, "failed", current.job.said)
        elif process.output():
            self._report(current, "output", current.job.said)
        self._advance(current.job, ended)

    def _read_output(self, descriptor: int) -> None:
        process = self._selector.get_key(descriptor).data
        if not process.read():
            self._selector.unregister(descriptor)
            if self._drained.pop(descriptor, None) is not None:
                process.close()

    def _drain(self, process: Process) -> None:
        """A command has ended: take the rest of its output, and leave it open where something still holds it."""
        descriptor = process.fileno()
        if descriptor not in self._selector.get_map():
            process.close()
            return
        if not process.read():
            self._selector.unregister(descriptor)
            process.close()
            return
        while len(self._drained) >= DRAINED_MAX:
            oldest = next(iter(self._drained))
            self._selector.unregister(oldest)
            self._drained.pop(oldest).close()
        self._drained[descriptor] = process

    def _wait_s(self) -> float | None:
        """Until something is due; None where only events count."""
        now_s = time.monotonic()
        due = [(one.name_due_s if one.process is None else one.process.due_s) - now_s for one in self._current]
        due += [wait for queues in (self._queues, self._asks) if (wait := queues.wait_s(now_s)) is not None]
        soonest = min(due, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest)

    # -- what goes out -----------------------------------------------------------------------------------------------

    def _say(self, message: FromRunner) -> None:
        self._link.push(message)

    def _report(self, current: Current, kind: Kind, text: str) -> None:
        """Say it, unless the like was said a moment ago; then count it with the next."""
        jail, action, moment = current.job.lane.partition("/")[0], current.step.action, current.step.moment
        key = (jail, action, moment, kind)
        now_s = time.monotonic()
        last_s, more = self._reported.get(key, (float("-inf"), 0))
        if now_s - last_s < REPORT_EVERY_S:
            self._reported[key] = (last_s, more + 1)
            return
        self._reported[key] = (now_s, 0)
        which = moment if moment == action else f"{moment} of {action}"
        self._say(Report(jail, action, moment, kind, f"{jail}: {which} {text}", more))

    def _tell(self) -> None:
        """How far each jail is, where that has changed."""
        for name, lane in self._queues.lanes.items():
            now = (max(0, lane.done), lane.dropped, lane.dropped_late)
            before = self._told.get(name, (0, 0, 0))
            if now == before:
                continue
            self._told[name] = now
            if now[1:] != before[1:]:
                self._say(Dropped(name, lane.dropped, lane.dropped_late))
            if now[0] != before[0]:
                self._say(Done(name, now[0]))
