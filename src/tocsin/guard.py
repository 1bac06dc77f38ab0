"""The watcher: follows logs, runs the rules, decides, tells the enforcer, and keeps the ledger. `tocsin guard`'s heart.

One thread does all that matters; beside it one writes the ledger and one writes what is said, so that neither a disk
nor a terminal can hold up a ban. The way of a line: inotify wakes us, the new bytes are read as a batch, the pipeline
finds and decides, and the Op is on its way to the enforcer before the next line is looked at.

It holds CAP_DAC_READ_SEARCH (to read logs) and nothing else; what the firewall is to do goes over the socket.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from tocsin.announce import Announcer
from tocsin.config import Config, ConfigErrors
from tocsin.config import load as load_config
from tocsin.control import ControlServer
from tocsin.decide.breaker import Breaker
from tocsin.decide.policy import Policy
from tocsin.decide.visitors import Visitors
from tocsin.duration import render_duration
from tocsin.enforce.client import Enforcer
from tocsin.enforcing import Enforcing
from tocsin.ledger.load import load
from tocsin.ledger.store import Ledger
from tocsin.model import Batch, Decision, Evidence, Finding, HttpRequest
from tocsin.pipeline import Pipeline
from tocsin.privileges import (
    Locked,
    PrivilegeError,
    die_with_parent,
    drop_to,
    lock_memory,
    own_directory,
    raise_priority,
    set_oom_score_adj,
)
from tocsin.reading import Reading, Readings
from tocsin.rules import CompiledRule, RuleErrors
from tocsin.sources.discovery import discover
from tocsin.sources.journal import Journal
from tocsin.sources.notice import Notice
from tocsin.sources.tail import Checkpoint, Tail
from tocsin.steering import Steering
from tocsin.wiring import (
    allow_list,
    breaker_settings,
    limits_of,
    local_zone,
    policy_settings,
    proxies_of,
    refresh_allow,
    rules_of,
)

CHECKPOINT_EVERY_S = 5.0
CHECKPOINT_SHARE = 400.0  # a checkpoint that takes long is taken so much more rarely: bans wait for it
HOST_EVERY_S = 30.0
COLLECT_EVERY_S = 3600.0
NOTICES_KEPT = 50
SWITCH_S = 0.0005  # after which a thread that writes must let the one go on that bans; Python's own 5 ms are too long
LAST_BYTES = 1 << 16  # of a log, by which its format is told before it grows
JOURNAL_MATCHES = ("_COMM=sshd", "_COMM=sshd-session")

Loader = Callable[[], Config]


class Watcher:
    """Everything at work. `run` returns when told to stop."""

    def __init__(
        self,
        config: Config,
        rules: tuple[CompiledRule, ...],
        enforcer: Enforcer | None,
        announcer: Announcer,
        *,
        observe: bool,
    ) -> None:
        self.config = config
        self.rules = rules
        self.observe = observe or config.guard.observe
        self.announcer = announcer
        self.selector = selectors.DefaultSelector()
        self.began_ts = time.time()
        self.notices: deque[Notice] = deque(maxlen=NOTICES_KEPT)
        self.stopping = False
        self.reload_wanted = False
        self._arrival_ts: float | None = None
        self._checkpoint_due_s = 0.0
        self._checkpoint_lines = -1
        self._host_due_s = time.monotonic() + HOST_EVERY_S
        self._collect_due_s = time.monotonic() + COLLECT_EVERY_S
        self._notified = False

        path = Path(config.guard.state_dir) / "ledger.db"
        saved = load(path, self.began_ts, config.bans.memory_s)
        self.ledger = Ledger(path, config.ledger.keep_s, config.ledger.max_rows, time.time, config.bans.memory_s)
        self.ledger.start()
        if saved.trouble is not None:
            self.announcer.say("ledger", saved.trouble)
        self.allow = allow_list(config)
        self.visitors = Visitors()
        self._ignored: set[str] = set()
        self.readings = Readings(self._find_logs(), proxies_of(config), local_zone(), self._new_reading)
        self.readings.ignored = self._ignored
        self.breaker = Breaker(breaker_settings(config), self.visitors, self._request_of)
        self.policy = Policy(
            policy_settings(config, observe=self.observe),
            self.allow,
            breaker=self.breaker,
            history=None,
            active=saved.active,
            starts=saved.starts,
        )
        self._history = saved.history
        self.pipeline = self._make_pipeline(rules)
        if saved.state is not None:
            self._take_up(saved.state)
        checkpoints = [
            msgspec.msgpack.decode(row, type=Checkpoint) for row in saved.checkpoints if not row.startswith(b"cursor ")
        ]
        cursor = next((row[7:].decode() for row in saved.checkpoints if row.startswith(b"cursor ")), None)
        self.tail = Tail([pattern for pattern, _ in self.readings.named], checkpoints)
        self.journal = self._open_journal(cursor)
        self.inputs: list[Tail | Journal] = [self.tail] if self.journal is None else [self.tail, self.journal]
        self.enforcing = Enforcing(enforcer, self.policy, self.ledger, self.announcer.say)

    # -- what is read ------------------------------------------------------------------------------------------------

    def _find_logs(self) -> list[tuple[str, str]]:
        """(path or glob, format) of the configured logs and of what the machine's web server says of its own.

        `tocsin guard` has shown all of it before it started us; here only what cannot be read is said again.
        """
        named = [(log.path, log.format or ("sshd" if log.kind == "auth" else "")) for log in self.config.log]
        if self.config.logs.discover:
            found = discover()
            self._ignored = {path for log in found.logs for path in log.exclude}
            for refused in found.unreadable:
                self.announcer.say("logs", f"{refused.path}: {refused.reason}; {refused.remedy}", source=refused.path)
            seen = {path for path, _ in named}
            named += [
                (log.path, log.format or ("sshd" if log.kind == "auth" else ""))
                for log in found.logs
                if log.kind in ("access", "auth") and log.path not in seen
            ]
        if not named:
            self.announcer.say("logs", "no logs found to watch; name them in [[log]] path = ... in the configuration")
        return named

    def _open_journal(self, cursor: str | None) -> Journal | None:
        """The journal, for sshd, where no auth log is followed and a journal is there."""
        wanted = self.config.logs.journal
        has_auth_log = any(spec == "sshd" and Path(path).exists() for path, spec in self.readings.named)
        if wanted == "off" or (wanted == "auto" and has_auth_log):
            return None
        journal = Journal(JOURNAL_MATCHES, cursor=cursor)
        if not journal.available:
            if wanted == "on":
                self.announcer.say("logs", f"the journal cannot be read: {journal.why_not}")
            return None
        self.readings.named.append(("journal", "journal"))
        return journal

    def _new_reading(self, source: str, reading: Reading) -> None:
        if reading.format is None:
            text = f"{source}: no known format fits its lines; they are only counted. Name one in [[log]] format"
        else:
            text = f"watching {source} as {reading.format.name} ({reading.share:.0%} of its lines fit, {reading.how})"
        self.announcer.say("log", text, source=source)

    def _request_of(self, evidence: Evidence) -> HttpRequest | None:
        return self.readings.request_of(evidence, time.time())

    def _read_logs(self) -> None:
        """Everything new, line by line through the pipeline."""
        for source in self.inputs:
            self._take(source.read())

    def _take(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            if batch.source in self.readings.ignored:
                continue
            self._arrival_ts = batch.arrival_ts
            self.pipeline.take(batch, batch.arrival_ts or time.time())

    # -- what is decided ---------------------------------------------------------------------------------------------

    def _make_pipeline(self, rules: tuple[CompiledRule, ...]) -> Pipeline:
        return Pipeline(
            rules,
            limits_of(self.config),
            self.policy,
            self.readings,
            self._on_decision,
            self.ledger.finding,
            observer=self.visitors,
        )

    def _take_up(self, state: bytes) -> None:
        try:
            self.pipeline.load(state)
        except msgspec.MsgspecError as error:
            self.announcer.say("state", f"the saved state cannot be used ({error}); counting begins anew, bans stay")
            self.pipeline = self._make_pipeline(self.rules)

    def _on_decision(self, decision: Decision, finding: Finding | None) -> None:
        self.enforcing.apply(decision, self._arrival_ts)
        self.ledger.decision(decision)
        self._say_decision(decision, finding)
        for notice in self.policy.take_notices():
            self.announcer.say("breaker", notice.text, rule=notice.rule)

    def carry_out(self, decision: Decision) -> None:
        """A decision of the operator's."""
        self._arrival_ts = None
        self._on_decision(decision, None)

    def _say_decision(self, decision: Decision, finding: Finding | None) -> None:
        if decision.action == "lift":
            text = f"unban {decision.subject}: {decision.note}"
        else:
            span_s = None if decision.end_ts is None else decision.end_ts - decision.start_ts
            text = f"ban {decision.subject} for {render_duration(span_s)}"
            if finding is not None:
                text += f": {finding.rule}, {finding.count} within {render_duration(finding.within_s)}"
            if decision.held is not None:
                text = f"would {text} (held: {decision.held})"
        fields = {name: getattr(decision, name) for name in ("action", "subject", "rule", "held", "id")}
        self.announcer.say("decision", text, **fields)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self, control: socket.socket) -> None:
        """Watch until told to stop."""
        steering = Steering(self)
        server = ControlServer(control, self.selector, steering.answer)
        register, read = self.selector.register, selectors.EVENT_READ
        for source in self.inputs:
            register(source.fileno(), read, self._read_logs)
        register(_signal_pipe(self._on_signal), read, self._drain_signals)
        if self.enforcing.enforcer is not None:
            register(self.enforcing.enforcer.fileno(), read, self.enforcing.receive)
        self.enforcing.read_now()
        self._remember()
        gc.collect()
        gc.freeze()
        gc.disable()  # a full collection over 500,000 keys takes 50 ms; what little cycles there are wait for an hour
        while not self.stopping:
            self._wait_for_enforcer_writes()
            for key, _ in self.selector.select(self._timeout_s()):
                key.data()
            self._tick()
            server.drop_silent(time.monotonic())
        self.stop()

    def _remember(self) -> None:
        """Take in who was banned before; between the steps the bans in force are on their way to the kernel."""
        enforcer = self.enforcing.enforcer
        for _ in self.policy.remember(self._history):
            if enforcer is not None:
                self.enforcing.flush()
                if select.select([enforcer], [], [], 0)[0]:
                    self.enforcing.receive()

    def stop(self) -> None:
        """Save where we stand and let go."""
        self._checkpoint()
        self.ledger.close(3.0)
        for source in self.inputs:
            source.close()

    def _wait_for_enforcer_writes(self) -> None:
        enforcer = self.enforcing.enforcer
        if enforcer is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.enforcing.wants_write else 0)
            if self.selector.get_key(enforcer.fileno()).events != events:
                self.selector.modify(enforcer.fileno(), events, self._on_enforcer)

    def _on_enforcer(self) -> None:
        self.enforcing.flush()
        self.enforcing.receive()

    def _timeout_s(self) -> float:
        if any(source.pending for source in self.inputs):
            return 0.0
        now_s = time.monotonic()
        due_s = min(self.enforcing.due_s(), self._host_due_s, self._collect_due_s)
        if self._has_news():
            due_s = min(due_s, self._checkpoint_due_s)
        return max(0.0, min(due_s - now_s, self._logs_due_ts() - time.time(), 60.0))

    def _logs_due_ts(self) -> float:
        """When a source wants to be read although it woke nobody."""
        return min((ts for source in self.inputs if (ts := source.deadline_ts()) is not None), default=math.inf)

    def _tick(self) -> None:
        due_ts = self._logs_due_ts()  # asked first: what is due at once is due as of then
        now_s, now_ts = time.monotonic(), time.time()
        if now_ts >= due_ts:
            self._read_logs()
        for source in self.inputs:
            for notice in source.notices():
                self.notices.append(notice)
                self.announcer.say(f"source-{notice.kind}", notice.text, source=notice.source)
        self.enforcing.tick(now_s)
        if self._has_news() and now_s >= self._checkpoint_due_s:
            self._checkpoint()
        if now_s >= self._host_due_s:
            self._host_due_s = now_s + HOST_EVERY_S
            self._refresh_host(now_ts)
        if now_s >= self._collect_due_s:
            self._collect_due_s = now_s + COLLECT_EVERY_S
            gc.collect()
        if self.reload_wanted:
            self.reload_wanted = False
            self.reload()
        self._say_ready()

    def _has_news(self) -> bool:
        return self.pipeline.engine.counts.lines != self._checkpoint_lines

    def _checkpoint(self) -> None:
        """Engine state and offsets, saved together; what is read after it is read again after a restart."""
        began_s = time.monotonic()
        rows: list[bytes] = [msgspec.msgpack.encode(checkpoint) for checkpoint in self.tail.checkpoints()]
        if self.journal is not None and self.journal.cursor:
            rows.append(b"cursor " + self.journal.cursor.encode())
        self._checkpoint_lines = self.pipeline.engine.counts.lines
        self.ledger.checkpoint(self.pipeline.dump(), rows, self._checkpoint_lines)
        now_s = time.monotonic()
        self._checkpoint_due_s = now_s + max(CHECKPOINT_EVERY_S, CHECKPOINT_SHARE * (now_s - began_s))

    def _refresh_host(self, now_ts: float) -> None:
        """What changes by itself: who is logged in, which bans have ended, whether the ledger lost any."""
        self.policy.expire(now_ts)
        if refresh_allow(self.allow, self.config):
            for lift in self.policy.spare(now_ts):
                self.pipeline.engine.unmute(lift.subject)
                self._on_decision(lift, None)
        if self.ledger.wants_restating():
            for decision in self.policy.restate(now_ts):
                self.ledger.decision(decision)

    def _say_ready(self) -> None:
        if self._notified or not self.enforcing.ready:
            return
        self._notified = True
        self._prepare()  # after the restored bans, before we say that we are there
        _give_memory_back()
        _notify_systemd("READY=1")
        active = self.policy.counts()["active"]
        how = "observing only" if self.observe or self.enforcing.enforcer is None else f"{active} bans in force"
        logs = len([file for file in self.tail.files() if not file.trouble])
        self.announcer.say("ready", f"guard is on: {len(self.rules)} rules, {logs} logs, {how}")

    def _prepare(self) -> None:
        """Make ready, for the formats of all logs, what would hold up the ban that the first line of one leads to."""
        now_ts = time.time()
        for followed in self.tail.files():
            if not followed.trouble and followed.source not in self.readings.ignored:
                lines = _last_lines(Path(followed.source))
                self.pipeline.engine.prepare(self.readings.expected(followed.source, lines, now_ts))

    # -- signals and reload ------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self.reload_wanted = True
        else:
            self.stopping = True

    def _drain_signals(self) -> None:
        os.read(_SIGNALS[0], 512)

    def reload(self) -> list[str]:
        """Take up changed rules; returns what is wrong with them (then the old ones stay)."""
        try:
            config = load_config(Path(self.config.file) if self.config.file else None)
            rules = rules_of(config)
        except (ConfigErrors, RuleErrors) as error:
            errors = str(error).splitlines()
            self.announcer.say("reload", f"the new configuration is not used, the old one stays: {'; '.join(errors)}")
            return errors
        self.config, self.rules = config, rules
        state = self.pipeline.dump()
        self.pipeline = self._make_pipeline(rules)
        self._take_up(state)
        self.allow.replace("configured", [(text, "[allow] in the configuration") for text in config.allow.addresses])
        self._refresh_host(time.time())
        self.announcer.say("reload", f"reloaded: {len(rules)} rules")
        return []


_SIGNALS: tuple[int, int] = (-1, -1)


def _signal_pipe(handle: Callable[[int], None]) -> int:
    """A descriptor that becomes readable when SIGTERM, SIGINT or SIGHUP has come; `handle` hears which."""
    global _SIGNALS  # noqa: PLW0603  a process has one set of signal handlers
    _SIGNALS = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(_SIGNALS[1], warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: handle(received))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return _SIGNALS[0]


def _last_lines(path: Path) -> bytes:
    """The last whole lines of a file, 64 KiB at most; empty where it has none or has gone."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_BYTES))
            data = file.read(LAST_BYTES)
    except OSError:
        return b""
    start = data.find(b"\n") + 1 if size > LAST_BYTES else 0
    return data[start : data.rfind(b"\n") + 1]


def _give_memory_back() -> None:
    """Return to the kernel what starting needed and running does not: compiling the patterns alone takes 25 MB."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl has none, and keeps less
        trim(0)


def _notify_systemd(state: str) -> None:
    """Tell systemd, if it is there (sd_notify(3): a datagram to $NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def main(arguments: list[str] | None = None) -> int:
    """Run as `python -m tocsin.guard --fd N --control-fd N [--config PATH] [--observe] [--json]`."""
    parser = argparse.ArgumentParser(prog="python -m tocsin.guard")
    parser.add_argument("--fd", type=int, required=True, help="socket to the enforcer; -1: none, observe only")
    parser.add_argument("--control-fd", type=int, required=True, help="listening control socket")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--observe", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
        rules = rules_of(config)
    except (ConfigErrors, RuleErrors) as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    notes = _settle(config)
    announcer = Announcer(as_json=options.json)
    for note in notes:
        announcer.say("rights", note)
    enforcer = Enforcer(socket.socket(fileno=options.fd)) if options.fd >= 0 else None
    sys.setswitchinterval(SWITCH_S)
    watcher = Watcher(config, rules, enforcer, announcer, observe=options.observe)
    try:
        watcher.run(socket.socket(fileno=options.control_fd))
    except EOFError:
        announcer.say("enforcer", "the enforcer has gone; both are started again, bans stay in force")
        watcher.stop()
        return os.EX_TEMPFAIL
    finally:
        announcer.close()
    return 0


def _settle(config: Config) -> list[str]:
    """Take the place of an unprivileged process that stays in memory; returns what could not be had."""
    notes: list[str] = []
    notes += own_directory(Path(config.guard.state_dir), config.guard.user)
    keep = {"CAP_DAC_READ_SEARCH"}
    for wish in (lock_memory, set_oom_score_adj, raise_priority):
        try:
            got = wish()
            keep |= got.needs if isinstance(got, Locked) else set()
        except PrivilegeError as error:
            notes.append(str(error))
    notes += drop_to(config.guard.user if os.getuid() == 0 else None, frozenset(keep)).notes
    die_with_parent(number=signal.SIGTERM)
    return notes


if __name__ == "__main__":
    sys.exit(main())
