"""What `tocsin check` looks at, one after the other: each gives items with a remedy where something is not well."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from tocsin.cli.check_web import web_items
from tocsin.cli.failure import CONFIGURATION, NO_PERMISSION, UNAVAILABLE, Failure
from tocsin.cli.item import Item
from tocsin.cli.setup import configuration, configured_rules, writable
from tocsin.cli.words import age, size
from tocsin.config import Config, ConfigErrors
from tocsin.decide.crawlers import FRESH_S
from tocsin.enforce.protocol import Step
from tocsin.formats import Anchor, sniff
from tocsin.resolving import KNOWN_ADDRESS, PORT, is_blind
from tocsin.sources.discovery import Discovery, FoundLog, discover
from tocsin.sources.host import read_resolvers
from tocsin.wiring import SERVERS_MOST, jails_of, local_zone, proxies_of, published_of

SNIFF_BYTES = 1 << 16
SNIFF_LINES = 200
SELFTEST_WITHIN_S = 20.0
PAST_TS = 1_750_000_000.0  # no clock that is right shows a time before this program was written
_TIME_ERROR = 5  # adjtimex(2): the kernel's clock is not synchronised
_TIMEX_BYTES = 512  # struct timex has 208 on 64-bit Linux; all zero asks and sets nothing

_SELFTEST = """
import sys, msgspec
from tocsin.enforce.selftest import selftest
sys.stdout.buffer.write(msgspec.json.encode(selftest()))
"""


def every_item(file: Path | None, fail2ban: Path | None = None, *, firewall: bool) -> Iterator[Item]:
    """All checks in order; a broken configuration is told and the rest is checked with the defaults."""
    config = Config()
    try:
        config = configuration(file, fail2ban)
        where = config.file or "none, so all is as shipped"
        yield Item("configuration", "ok", where)
    except Failure as failure:
        yield from _failed("configuration", failure, "correct this; docs/config.md lists the keys")
    try:
        yield Item("rules", "ok", f"{len(configured_rules(config))} are on")
    except Failure as failure:
        yield from _failed("rules", failure, "correct this; docs/rules.md describes the language")
    yield _crawlers(config, time.time())
    if config.fail2ban.path:
        from tocsin.cli.check_jails import jail_items  # noqa: PLC0415  megabytes, for those who have jails

        yield from jail_items(config)
    yield from _logs(config)
    yield from _journal(config)
    yield from web_items(config)
    if firewall:
        yield from _firewall()
    for name, path in (("state folder", config.guard.state_dir), ("run folder", config.guard.run_dir)):
        yield _folder(name, Path(path))
    yield _clock(time.time())


def _failed(name: str, failure: Failure, remedy: str) -> Iterator[Item]:
    for line in failure.lines:
        yield Item(name, "failed", line, remedy, failure.code)


def _crawlers(config: Config, now_ts: float) -> Item:
    """Whether claims to be a crawler can be checked, by networks and by names."""
    published, trouble = published_of(config)
    if trouble:
        return Item("crawlers", "failed", trouble, "correct or remove the file of [crawlers] ranges", CONFIGURATION)
    networks = f"networks published as of {published.day}"
    if abs(now_ts - published.ts) > FRESH_S:
        remedy = "name newer ones: [crawlers] ranges (docs/rules.md says how)"
        return Item("crawlers", "warning", f"{networks} are too old to prove an impostor", remedy)
    if not config.crawlers.dns:
        return Item("crawlers", "ok", f"{networks}; names are not looked up ([crawlers] dns = false)")
    servers = read_resolvers()[:SERVERS_MOST]
    if not servers:
        text = f"{networks}; no name server is known, so no names are looked up"
        return Item("crawlers", "warning", text, "name one in /etc/resolv.conf, or set [crawlers] dns = false")
    asked = f"{networks}, names asked of {', '.join(servers)}"
    if is_blind([(server, PORT) for server in servers]):
        text = f"{asked}: they do not know who {KNOWN_ADDRESS} is (a Googlebot), so names prove nothing here"
        return Item("crawlers", "warning", text, "let this machine resolve names, or set [crawlers] dns = false")
    return Item("crawlers", "ok", asked)


# -- logs ------------------------------------------------------------------------------------------------------------


def _logs(config: Config) -> Iterator[Item]:
    found = discover() if config.logs.discover else Discovery((), (), ())
    watched = 0
    for log in config.log:
        for path in _matching(log.path):
            watched += 1
            yield _format_of(path, log.format, config, "configuration")
    configured = {log.path for log in config.log}
    for each in found.logs:
        if each.kind != "error" and each.path not in configured:
            watched += 1
            yield _found_log(each, config)
    for item in found.unreadable:
        yield Item(
            f"log {item.path}",
            "failed" if item.path in {log.path for log in found.logs} else "warning",
            item.reason,
            item.remedy,
            NO_PERMISSION,
        )
    if not watched:
        remedy = "name them under [[log]] path = ... in the configuration"
        others = [
            *(["the journal"] if _reads_journal(config) else ()),
            *(["the jails'"] if _have_jails_logs(config) else ()),
        ]
        if others:
            yield Item("logs", "warning", f"none found but {' and '.join(others)}", f"if there are others, {remedy}")
        else:
            yield Item("logs", "failed", "none found", remedy, CONFIGURATION)


def _reads_journal(config: Config) -> bool:
    from tocsin.sources.journal import Journal  # noqa: PLC0415  it starts nothing before it is read

    return config.logs.journal != "off" and Journal(()).available


def _have_jails_logs(config: Config) -> bool:
    """Whether there is a jail that reads a log; what is wrong with jails is said elsewhere."""
    try:
        jailed = jails_of(config)
    except ConfigErrors:
        return False
    return jailed is not None and bool(jailed.logs)


def _matching(pattern: str) -> list[Path]:
    """The files that a configured path or glob names; the path itself where there are none, so that it is told."""
    root = Path("/")
    return sorted(root.glob(pattern.lstrip("/"))) or [Path(pattern)]


def _found_log(log: FoundLog, config: Config) -> Item:
    if not log.exists:
        detail = f"not there yet ({log.found_in}); it is watched as soon as it appears"
        return Item(f"log {log.path}", "ok", detail)
    if log.files > 1 or not log.readable:
        state: Literal["ok", "failed"] = "ok" if log.readable else "failed"
        detail = f"{log.files} files, {size(log.size_bytes)}, {log.found_in}"
        return Item(f"log {log.path}", state, detail, "" if log.readable else "run as root", NO_PERMISSION)
    about = f"{size(log.size_bytes)}, written {age(log.age_s)} ago, {log.found_in}"
    return _format_of(Path(_matching(log.path)[0]), log.format, config, about)


def _format_of(path: Path, spec: str, config: Config, about: str) -> Item:
    """Whether a log's own lines fit the format that it should have, or which one they fit."""
    name = f"log {path}"
    try:
        lines = _last_lines(path)
    except FileNotFoundError:
        return Item(name, "warning", f"there is no such file ({about})", "correct the path, or wait for its first line")
    except OSError as error:
        return Item(
            name, "failed", f"cannot be read: {error.strerror}", "run as root, or correct its rights", NO_PERMISSION
        )
    if not lines:
        return Item(name, "ok", f"empty so far, {about}")
    anchor = Anchor(path.stat().st_mtime, local_zone())
    if spec:
        return _named_format(name, spec, lines, anchor, config, about)
    guesses = sniff(lines, anchor, proxies_of(config))
    if not guesses or guesses[0].share < 0.5:
        sample = lines[-1][:200].decode("utf-8", "backslashreplace")
        text = f"no known format fits its last {len(lines)} lines, such as: {sample}"
        return Item(name, "failed", text, "name it: [[log]] path and format in the configuration", CONFIGURATION)
    return _judged(name, guesses[0].format.name, guesses[0].share, len(lines), about)


def _named_format(name: str, spec: str, lines: list[bytes], anchor: Anchor, config: Config, about: str) -> Item:
    from tocsin.formats import by_name  # noqa: PLC0415  after the module's names, none of which it is
    from tocsin.model import Unparsed  # noqa: PLC0415  as above

    form = by_name(spec, proxies_of(config))
    fitting = sum(not isinstance(form.parse(line, anchor), Unparsed) for line in lines)
    return _judged(name, form.name, fitting / len(lines), len(lines), about)


def _judged(name: str, form: str, share: float, tried: int, about: str) -> Item:
    detail = f"{form}, fits {share:.0%} of its last {tried} lines, {about}"
    if share < 0.5:
        return Item(name, "failed", detail, "correct its format: [[log]] in the configuration", CONFIGURATION)
    remedy = "see the lines that do not fit with `tocsin replay`" if share < 1 else ""
    return Item(name, "ok" if share == 1 else "warning", detail, remedy)


def _last_lines(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        file.seek(0, 2)
        begin = max(0, file.tell() - SNIFF_BYTES)
        file.seek(begin)
        data = file.read(SNIFF_BYTES)
    lines = data.split(b"\n")[1 if begin else 0 : -1]
    return [line for line in lines if line][-SNIFF_LINES:]


def _journal(config: Config) -> Iterator[Item]:
    from tocsin.sources.journal import Journal  # noqa: PLC0415  it starts nothing before it is read

    if config.logs.journal == "off":
        return
    journal = Journal(("_COMM=sshd",))
    try:
        if journal.available:
            yield Item("journal", "ok", "can be read")
        else:
            state: Literal["failed", "ok"] = "failed" if config.logs.journal == "on" else "ok"
            remedy = 'set [logs] journal = "auto"' if state == "failed" else ""
            yield Item("journal", state, f"not read: {journal.why_not}", remedy, UNAVAILABLE)
    finally:
        journal.close()


# -- firewall, folders, clock ----------------------------------------------------------------------------------------


def _firewall() -> Iterator[Item]:
    """The proof, in a process of its own: what it loads need not stay, and its capabilities are ours as they are."""
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter
            [sys.executable, "-I", "-c", _SELFTEST], capture_output=True, timeout=SELFTEST_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        yield Item(
            "firewall", "failed", f"no answer within {SELFTEST_WITHIN_S:g} s", "see the kernel's log", UNAVAILABLE
        )
        return
    if done.returncode != 0:
        why = done.stderr.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
        yield Item(
            "firewall", "failed", f"the self-test ended: {why}", "install libnftables1 and nftables", UNAVAILABLE
        )
        return
    for step in msgspec.json.decode(done.stdout, type=list[Step]):
        state: Literal["ok", "warning", "failed"] = "ok" if step.ok else "failed" if step.required else "warning"
        may_not = "permitted" in step.detail or "CAP_NET_ADMIN" in step.detail + step.remedy
        yield Item(f"firewall: {step.name}", state, step.detail, step.remedy, NO_PERMISSION if may_not else UNAVAILABLE)


def _folder(name: str, path: Path) -> Item:
    wrong = writable(path)
    if wrong is None:
        return Item(name, "ok", f"{path} can be written" if path.exists() else f"{path} can be made")
    return Item(name, "failed", wrong.lines[0], wrong.lines[1], wrong.code)


def _clock(now_ts: float) -> Item:
    """Stamps in logs and ends of bans are by the clock."""
    remedy = "set it, and keep it right with systemd-timesyncd or chrony"
    if now_ts < PAST_TS:
        return Item(
            "clock",
            "failed",
            f"it shows {time.strftime('%Y-%m-%d', time.gmtime(now_ts))}, which is past",
            remedy,
            UNAVAILABLE,
        )
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == _TIME_ERROR:
        return Item("clock", "warning", "the kernel does not know it to be synchronised", remedy)
    return Item("clock", "ok", "synchronised" if state >= 0 else "runs")
