"""The watcher: follows logs, runs the rules, decides, tells the enforcer, and keeps the ledger. `tocsin guard`'s heart.

One thread does all that matters; beside it one writes the ledger and one writes what is said, so that neither a disk
nor a terminal can hold up a ban. The way of a line: inotify wakes us, the new bytes are read as a batch, the pipeline
finds and decides, and the Op is on its way to the enforcer before the next line is looked at.

It holds CAP_DAC_READ_SEARCH (to read logs) and nothing else; what the firewall is to do goes over the socket.
"""

from __future__ import annotations

import argparse
import os
import select
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from tocsin.announce import Announcer
from tocsin.config import Config, ConfigErrors
from tocsin.config import load as load_config
from tocsin.daemon import has_alone, notify_systemd, settle
from tocsin.decide.breaker import Breaker
from tocsin.decide.crawlers import Published, shipped
from tocsin.decide.crowd import Crowd
from tocsin.decide.impostors import Answer, Crawlers
from tocsin.decide.policy import Policy
from tocsin.decide.visitors import Visitors
from tocsin.duration import render_duration
from tocsin.enforce.client import Enforcer
from tocsin.enforce.webfiles import marker_path
from tocsin.enforcing import Enforcing
from tocsin.importing import imported
from tocsin.learning import learn
from tocsin.ledger.load import bans_by_rule, load
from tocsin.ledger.store import Ledger
from tocsin.loop import Loop
from tocsin.memory import give_back
from tocsin.model import Decision, Evidence, Finding, HttpRequest
from tocsin.pipeline import Pipeline
from tocsin.privileges import PrivilegeError
from tocsin.reading import Readings
from tocsin.rules import CompiledRule, RuleErrors
from tocsin.saying import warn
from tocsin.telling import Telling
from tocsin.watching import Watching
from tocsin.wiring import (
    allow_list,
    breaker_settings,
    counted,
    jails_of,
    limits_of,
    policy_settings,
    prefixes_of,
    published_of,
    refresh_allow,
    reloaded,
    resolver_of,
    rules_of,
    siege_settings,
)

SWITCH_S = 0.0005  # after which a thread that writes must let the one go on that bans; Python's own 5 ms are too long
STOP_WITHIN_S = 4.0  # the ledger's last rows and the actions' ends; the supervisor waits 5
JAILS_ROW = b"jails "

if TYPE_CHECKING:
    from tocsin.fail2ban.rules import Jailed
    from tocsin.jailing import Jailing


class Watcher:
    """Everything at work, from lines to what is done about them. `Loop` runs it, `Steering` answers for it."""

    def __init__(
        self,
        config: Config,
        rules: tuple[CompiledRule, ...],
        enforcer: Enforcer | None,
        announcer: Announcer,
        *,
        observe: bool,
        jailed: Jailed | None = None,
        runner: socket.socket | None = None,
    ) -> None:
        self.config = config
        self.observe = observe or config.guard.observe
        self.announcer = announcer
        self.selector = selectors.DefaultSelector()
        self.began_ts = time.time()
        self._arrival_ts: float | None = None
        self._checkpoint_lines = -1
        self._chapters = 0  # of what is normal, as saved last
        path = _ledger(config)
        saved = load(path, self.began_ts, config.bans.memory_s)
        self.ledger = Ledger(path, config.ledger.keep_s, config.ledger.max_rows, time.time, config.bans.memory_s)
        self.ledger.start()
        if saved.trouble is not None:
            self.announcer.say("ledger", saved.trouble)
        self.allow = allow_list(config)
        self.visitors = Visitors()
        sources = [row for row in saved.checkpoints if not row.startswith(JAILS_ROW)]
        self.watching = Watching(config, jailed, self.announcer.say, sources)
        self.crowd = Crowd(self.visitors, siege_settings(config), lambda _change: None)
        self.breaker = Breaker(breaker_settings(config), self.visitors, self._request_of)
        self.policy = Policy(
            policy_settings(config, observe=self.observe),
            self.allow,
            breaker=self.breaker,
            prefixes=prefixes_of(config),
            history=None,
            active=saved.active,
            starts=saved.starts,
            crawlers=self._make_crawlers(),
        )
        self._history = saved.history
        self._runner = runner
        self.jailing = self._make_jailing(jailed, saved.checkpoints)
        self.rules = (*(self.jailing.rules if self.jailing else ()), *self.watching.share(rules))
        self.pipeline = self._make_pipeline(self.rules)
        if saved.state is not None:
            self._take_up(saved.state, saved.normal)
        marker, proxied = marker_path(config.file), bool(config.proxies.trusted)
        self.enforcing = Enforcing(enforcer, self.policy, self.ledger, self.announcer.say, marker, proxied=proxied)
        self.enforcing.denials.restore(saved.denials)
        self.telling = Telling(self.announcer.say, self.enforcing.denials.say_rule, self.crowd, observe=self.observe)
        self._ask_web_server()

    def read_logs(self) -> None:
        """Everything new, line by line through the pipeline."""
        for batch in self.watching.read():
            self._arrival_ts = batch.arrival_ts
            self.pipeline.take(batch, batch.arrival_ts or time.time())

    def _request_of(self, evidence: Evidence) -> HttpRequest | None:
        return self.watching.readings.request_of(evidence, time.time())

    # -- what is decided ---------------------------------------------------------------------------------------------

    def _make_pipeline(self, rules: tuple[CompiledRule, ...]) -> Pipeline:
        pipeline = Pipeline(
            rules,
            limits_of(self.config),
            self.policy,
            self.watching.readings,
            self._on_decision,
            self.ledger.finding,
            crowd=self.crowd,
        )
        pipeline.on_siege = lambda change: self.telling.siege(change, pipeline.cannot)
        return pipeline

    def _take_up(self, state: bytes, normal: bytes = b"") -> None:
        try:
            self.pipeline.load(state, normal)
        except msgspec.MsgspecError as error:
            self.announcer.say("state", f"the saved state cannot be used ({error}); counting begins anew, bans stay")
            self.pipeline = self._make_pipeline(self.rules)

    def _make_crawlers(self) -> Crawlers:
        self.resolver = resolver_of(self.config, self._on_answer)
        return Crawlers(self._published(shipped()), dns=self.resolver is not None)

    def _published(self, otherwise: Published) -> Published:
        published, trouble = published_of(self.config)
        if trouble:
            published = otherwise
            self.announcer.say("crawlers", f"{trouble}; the networks of {published.day} stay in use")
        return published

    def _on_answer(self, answer: Answer) -> None:
        self._arrival_ts = None
        self.pipeline.answer(answer)

    def _on_decision(self, decision: Decision, finding: Finding | None) -> None:
        self.enforcing.apply(decision, self._arrival_ts)
        self.ledger.decision(decision)
        if self.jailing is not None:
            self.jailing.note(decision, finding)
        self.telling.decision(decision, finding, self.pipeline.cannot)
        for notice in self.policy.take_notices():
            self.announcer.say("breaker", notice.text, rule=notice.rule)

    def carry_out(self, decision: Decision) -> None:
        """A decision of the operator's."""
        self._arrival_ts = None
        self._on_decision(decision, None)

    def take_back(self) -> None:
        """End the bans that the enforcer has refused: what it does not take is in force nowhere. Of a rule's, no line
        counts until it would have ended, or the next few would ban again.
        """
        self._arrival_ts = None
        for receipt in self.enforcing.take_refused():
            self.pipeline.pardon(receipt.subject, f"the firewall refused it: {receipt.error}", time.time())

    # -- from begin to end -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """What is done once, before anything is waited for."""
        self.enforcing.read_now()
        self._remember()
        if self.jailing is not None:
            self.jailing.begin(self.pipeline)  # what waited is judged by who was banned before
        self._learn()

    def _remember(self) -> None:
        """Take in who was banned before; between the steps the bans in force are on their way to the kernel."""
        enforcer = self.enforcing.enforcer
        for _ in self.policy.remember(self._history):
            if enforcer is not None:
                self.enforcing.flush()
                if select.select([enforcer], [], [], 0)[0]:
                    self.enforcing.receive()
        self.policy.pasts.suppose(imported(Path(self.config.guard.state_dir)))

    def _learn(self) -> None:
        """At the first start: what is normal, from the logs that are there."""
        settings = self.crowd.settings
        if not settings.enabled or self.crowd.normal.seconds:
            return
        paths = [Path(file.source) for file in self.watching.tail.files() if not file.trouble]
        now_ts = time.time()
        readings = Readings(self.watching.readings.named, self.watching.readings.proxies, self.watching.readings.zone)
        learnt, lines = learn(paths, readings, settings, now_ts)
        if learnt.normal.seconds:
            self.crowd.adopt(learnt)
            span = render_duration(60 * round(learnt.normal.seconds / 60))
            self.announcer.say("learnt", f"what is normal was learnt from {lines:,} lines of {span} that were there")

    def has_news(self) -> bool:
        """Whether lines were read that no checkpoint knows of."""
        return self.pipeline.engine.counts.lines != self._checkpoint_lines

    def checkpoint(self) -> None:
        """Engine state and offsets, saved together; what is read after it is read again after a restart."""
        jails = [JAILS_ROW + self.jailing.dump()] if self.jailing is not None else []
        self._checkpoint_lines = self.pipeline.engine.counts.lines
        chapters = self.crowd.normal.chapters
        normal = self.crowd.normal.dump() if chapters != self._chapters else None
        self._chapters = chapters
        rows = [*self.watching.positions(), *jails]
        self.ledger.checkpoint(self.pipeline.dump(normal=False), rows, self._checkpoint_lines, normal)

    def _ask_web_server(self) -> None:
        """What can be done there."""
        self.pipeline.cannot = self.enforcing.denials.cannot()
        self.crowd.sieges.asks = "limit" not in self.pipeline.cannot

    def refresh_host(self, now_ts: float) -> None:
        """What changes by itself: who is logged in, which bans have ended, whether the web server is set up."""
        self._ask_web_server()
        self.policy.expire(now_ts)
        if refresh_allow(self.allow, self.config):
            for lift in self.policy.spare(now_ts):
                self.pipeline.let_in(lift)
                self._on_decision(lift, None)

    def say_ready(self) -> None:
        """Tell whoever waits for it that the kernel holds what it should."""
        self.watching.prepare(self.pipeline.engine)  # after the restored bans, before we say that we are there
        give_back()
        notify_systemd("READY=1")
        active = f"{self.policy.counts()['active']} bans in force"
        how = "observing only" if self.observe or self.enforcing.enforcer is None else active
        self.announcer.say("ready", f"guard is on: {counted(self.rules)}, {self.watching.followed()} logs, {how}")

    def stop(self) -> None:
        """Save where we stand and let go."""
        until_s = time.monotonic() + STOP_WITHIN_S
        self.checkpoint()
        if self.jailing is not None:
            self.jailing.stop()
        if not self.ledger.close(3.0):
            self.announcer.say("ledger", f"not all could be saved: {self.ledger.trouble() or 'it took too long'}")
        self.watching.close()
        if self.resolver is not None:
            self.resolver.close()
        if self.jailing is not None:
            self.jailing.wait_stopped(until_s - time.monotonic())

    # -- reload ------------------------------------------------------------------------------------------------------

    def reload(self) -> list[str]:
        """Take up changed rules; returns what is wrong with them (then the old ones stay)."""
        try:
            wanted = load_config(Path(self.config.file) if self.config.file else None)
            stays, config = reloaded(wanted, self.config)
            rules, jailed = rules_of(config), jails_of(config)
        except (ConfigErrors, RuleErrors) as error:
            return self._refuse_reload(str(error).splitlines())
        errors = self.jailing.lost_by(jailed) if self.jailing is not None else []
        if errors:
            return self._refuse_reload(errors)
        self.config = config
        self.policy.crawlers.take_up(self._published(self.policy.crawlers.published))
        self.watching.take_up(config, jailed)
        self._take_up_jails(jailed)
        self.rules = (*(self.jailing.rules if self.jailing else ()), *self.watching.share(rules))
        state = self.pipeline.dump()
        self.pipeline = self._make_pipeline(self.rules)
        self._take_up(state)
        if self.jailing is not None:
            self.jailing.begin(self.pipeline)
        self.watching.prepare(self.pipeline.engine)
        self.allow.replace("configured", [(text, "[allow] in the configuration") for text in config.allow.addresses])
        self.crowd.configure(siege_settings(config))
        self.refresh_host(time.time())
        self.announcer.say("reload", f"reloaded: {counted(self.rules)}{stays}")
        return []

    def _refuse_reload(self, errors: list[str]) -> list[str]:
        self.announcer.say("reload", f"the new configuration is not used, the old one stays: {'; '.join(errors)}")
        return errors

    # -- fail2ban's jails --------------------------------------------------------------------------------------------

    def _make_jailing(self, jailed: Jailed | None, positions: Sequence[bytes] = ()) -> Jailing | None:
        if jailed is None:
            return None
        from tocsin.jailing import Jailing  # noqa: PLC0415  megabytes, for those who have a fail2ban

        rows = [row.removeprefix(JAILS_ROW) for row in positions if row.startswith(JAILS_ROW)]
        return Jailing(
            jailed,
            bans_by_rule(_ledger(self.config), time.time()),
            rows[0] if rows else b"",
            say=self.announcer.say,
            runner=self._runner,
            observe=self.observe,
            why_not=self._why_no_runner(),
            earlier=self.policy.earlier_by,
            weighs=lambda: self.config.fail2ban.weigh_offenders,
        )

    def _why_no_runner(self) -> str:
        if self.observe:
            return "guard only observes"
        if not self.config.fail2ban.actions:
            return "[fail2ban] actions = false"
        return "they were not needed when guard was started; start it anew"

    def _take_up_jails(self, jailed: Jailed | None) -> None:
        """After a reload; a runner that was not needed when guard started is not started now."""
        if jailed is None:
            if self.jailing is not None:
                self.jailing.leave()
            self.jailing = None
        elif self.jailing is None:
            self.jailing = self._make_jailing(jailed)
            if self.jailing is not None:
                self.jailing.wait_on(self.selector)
        else:
            self.jailing.take_up(jailed)


def _ledger(config: Config) -> Path:
    return Path(config.guard.state_dir) / "ledger.db"


def main(arguments: list[str] | None = None) -> int:
    """Run as `python -m tocsin.guard --fd N --control-fd N [--config PATH] [--observe] [--json]`."""
    parser = argparse.ArgumentParser(prog="python -m tocsin.guard")
    parser.add_argument("--fd", type=int, required=True, help="socket to the enforcer; -1: none, observe only")
    parser.add_argument("--control-fd", type=int, required=True, help="listening control socket")
    parser.add_argument("--runner-fd", type=int, default=-1, help="socket to the runner of actions; -1: none")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--fail2ban", type=Path)
    parser.add_argument("--observe", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
        if options.fail2ban is not None:
            config = structs.replace(config, fail2ban=structs.replace(config.fail2ban, path=str(options.fail2ban)))
        rules, jailed = rules_of(config), jails_of(config)
    except (ConfigErrors, RuleErrors) as error:
        warn(str(error))
        return os.EX_CONFIG
    try:
        notes = settle(config)
    except PrivilegeError as error:
        warn(str(error))
        return os.EX_NOPERM
    if not has_alone(Path(config.guard.state_dir)):
        warn(f"another guard has its state in {config.guard.state_dir}: stop it, or give this one another state_dir")
        return os.EX_TEMPFAIL  # it may be the last one, which is just ending
    announcer = Announcer(as_json=options.json)
    for note in notes:
        announcer.say("rights", note)
    enforcer = Enforcer(socket.socket(fileno=options.fd)) if options.fd >= 0 else None
    runner = socket.socket(fileno=options.runner_fd) if options.runner_fd >= 0 else None
    sys.setswitchinterval(SWITCH_S)
    watcher = Watcher(config, rules, enforcer, announcer, observe=options.observe, jailed=jailed, runner=runner)
    try:
        Loop(watcher).run(socket.socket(fileno=options.control_fd))
    except EOFError:
        announcer.say("enforcer", "the enforcer has gone; both are started again, bans stay in force")
        watcher.stop()
        return os.EX_TEMPFAIL
    finally:
        announcer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
