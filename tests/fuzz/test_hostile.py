"""Law 8: nothing a client can put in a request makes another address banned, a terminal obey, or a line cost too much.

Every forgery of `forgeries.py` goes, in every field and as every server logs it, through the engine with all shipped
rules, the same at a limit of one, rules that count every line, and rules that count by what the client sends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC
from functools import cache
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path

import pytest
from forgeries import (
    ATTACKER,
    FORGERIES,
    HTTP_FIELDS,
    HTTP_WRITERS,
    NOW_TS,
    SSHD_WRITERS,
    TIME,
    VICTIM,
    http_line,
    journal_line,
    sshd_line,
)
from msgspec import structs

from tocsin.detect.books import Counts
from tocsin.detect.engine import Engine
from tocsin.formats import Anchor, Format, Proxies, by_name, sniff
from tocsin.model import Batch, Finding
from tocsin.rules import CompiledRule, compile_rule, load_shipped, read_rules
from tocsin.sources.lines import MAX_LINE_BYTES, Lines

ANCHOR = Anchor(NOW_TS, UTC)
EVERYTHING = """
[every-request]
on = "http-request"
limit = 1
ban = "1h"
[every-login]
on = "auth"
where = { outcome = ["success", "failure"] }
limit = 1
ban = "1h"
[every-agent]
on = "http-request"
where = { user_agent = { missing = false } }
by = "user_agent"
limit = 1
ban = "1h"
[every-path]
on = "http-request"
where = { path = { missing = false } }
by = "path"
limit = 1
ban = "1h"
[every-user]
on = "auth"
where = { user = { missing = false } }
by = "user"
limit = 1
ban = "1h"
"""


@cache
def rules() -> tuple[CompiledRule, ...]:
    """All shipped rules, each once more at a limit of one, and rules on everything."""
    shipped = load_shipped()
    at_once = [structs.replace(rule, id=f"{rule.id}-at-once", limit=1, distinct=None) for rule in shipped]
    return tuple(compile_rule(rule) for rule in (*read_rules(EVERYTHING, "everything.toml"), *shipped, *at_once))


@cache
def skimming_rules() -> tuple[CompiledRule, ...]:
    """One rule that counts lines without parsing them, and rules with literals."""
    flood = [rule for rule in rules() if rule.rule.id == "every-request"]
    return tuple(flood + [rule for rule in rules() if rule.needs is not None])


class Judge:
    """Engines over one format, kept for many lines: nobody is ever muted, so every line counts."""

    def __init__(self, spec: str) -> None:
        self.format: Format = by_name(spec, Proxies())
        self.engines = [
            Engine(rules()),
            Engine(rules(), prefilter=False),
            Engine(skimming_rules()),
            Engine(skimming_rules(), fallback=True),
        ]

    def subjects(self, lines: Iterable[bytes]) -> set[str]:
        """Whom the findings over these lines name, with any of the engines; every line must be accounted for."""
        data = b"".join(line + b"\n" for line in lines)
        named: set[str] = set()

        def on_finding(finding: Finding) -> None:
            named.add(finding.subject)

        for engine in self.engines:
            engine.step(Batch("log", data, 0, 1), self.format, ANCHOR, on_finding)
        assert len({engine.counts.lines for engine in self.engines}) == 1
        assert_accounted(self.engines[0].counts)
        return named


def assert_accounted(counts: Counts) -> None:
    """Where every line is looked at, each is either read or counted as what could not be read."""
    assert counts.parsed + counts.unparsed == counts.lines


judge_of = cache(Judge)


def is_attacker(subject: str) -> bool:
    return ip_address(ATTACKER) in ip_network(subject)


@pytest.mark.parametrize("field", HTTP_FIELDS)
@pytest.mark.parametrize("writer", HTTP_WRITERS)
def test_a_forged_request_names_nobody_else(writer: str, field: str) -> None:
    """Escaped as servers do, the attacker himself is named; unescaped, he or nobody."""
    judge = judge_of(HTTP_WRITERS[writer][0])
    told = 0
    for sent in FORGERIES:
        line = http_line(writer, field, sent)
        if b"\n" in line:
            pytest.fail(f"the writer wrote two lines: {line!r}")
        subjects = judge.subjects([line])
        assert all(map(is_attacker, subjects)), (line, subjects)
        told += bool(subjects)
    if writer in {"combined", "combined by nginx", "vhost_combined", "main", "caddy", "traefik"}:
        assert told == len(FORGERIES), "a forgery hides the attacker"
    assert told, "no line of this server was read at all"


@pytest.mark.parametrize("kind", ["syslog", "journal"])
@pytest.mark.parametrize("writer", SSHD_WRITERS)
def test_a_forged_login_names_nobody_else(writer: str, kind: str) -> None:
    judge = judge_of("sshd" if kind == "syslog" else "journal")
    for sent in FORGERIES:
        line = sshd_line(writer, sent)
        subjects = judge.subjects([line if kind == "syslog" else journal_line(line)])
        assert all(map(is_attacker, subjects)), (line, subjects)


def test_an_honest_login_is_read() -> None:
    """The table above is about lines that are read."""
    told = [writer for writer in SSHD_WRITERS if judge_of("sshd").subjects([sshd_line(writer, b"root")])]
    assert len(told) >= len(SSHD_WRITERS) // 2


@pytest.mark.parametrize("header", [f"{VICTIM}", f"{VICTIM}, 5.6.7.8", f"5.6.7.8, {VICTIM}", f"[{VICTIM}]"])
@pytest.mark.parametrize("writer", ["main", "caddy", "traefik", "json by nginx"])
def test_a_header_of_an_untrusted_peer_decides_nothing(writer: str, header: str) -> None:
    """Also where proxies are trusted, but this peer is none of them."""
    judge = Judge(HTTP_WRITERS[writer][0])
    judge.format = by_name(HTTP_WRITERS[writer][0], Proxies([ip_network("10.0.0.0/8")]))
    subjects = judge.subjects([http_line(writer, "header", header.encode())])
    assert subjects
    assert all(map(is_attacker, subjects))


ODD_CLIENTS = (
    "fe80::1%eth0", "::ffff:192.0.2.99%1", "192.0.2.99%eth0", "192.0.2.099", "0xc0.0.2.99", "192.0.2.99.", "192.0.2",
    "192.0.2.99, 203.0.113.7", "3221226083", "[192.0.2.99]x", "192.0.2.99/24", "host-192.0.2.99.example.org", "-", "",
    "192.0.2.99\\x00", "192.0.2.99\x00", "１９２.0.2.99",
)  # fmt: skip


@pytest.mark.parametrize("client", ODD_CLIENTS)
def test_what_is_no_address_is_nobodys(client: str) -> None:
    """Not rounded to an address that it resembles."""
    for writer in ("combined", "caddy", "traefik", "json by nginx"):
        line = http_line(writer, "agent", b"x", client)
        assert not judge_of(HTTP_WRITERS[writer][0]).subjects([line]), (writer, line)
    assert not judge_of("sshd").subjects([sshd_line(next(iter(SSHD_WRITERS)), b"root", client)])


def test_an_address_has_one_spelling() -> None:
    """`::ffff:a.b.c.d` is a.b.c.d: neither a way round a ban nor a second subject."""
    for spelling in (f"::ffff:{ATTACKER}", "::ffff:cb00:7107", "0:0:0:0:0:FFFF:CB00:7107", ATTACKER):
        assert judge_of("combined").subjects([http_line("combined", "agent", b"x", spelling)]) == {ATTACKER}


JSON_BOMBS = (
    b"[" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"ts":1466435854,"request":{"remote_ip":"203.0.113.7","headers":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_002,
    b'{"ts":1e999,"status":200,"remote_addr":"192.0.2.99"}',
    b'{"ts":' + b"9" * 100_000 + b',"status":200,"remote_addr":"192.0.2.99"}',
    b'{"ts":"' + b"1" * 100_000 + b'","status":200,"remote_addr":"192.0.2.99"}',
    b'{"ts":1466435854,"status":200,"remote_addr":["192.0.2.99"]}',
    b'{"ts":1466435854,"status":200,"remote_addr":{"ip":"192.0.2.99"}}',
    b'{"ts":NaN,"status":200,"remote_addr":"192.0.2.99"}',
    b'{"ts":true,"status":true,"remote_addr":"192.0.2.99"}',
)
# A server writes one key of a kind. Two are the work of a client where a JSON log is written without JSON's escapes.
JSON_TWICE = tuple(
    line.replace("REQUEST", '"method":"GET","uri":"/"').encode()
    for line in r"""
{"ts":1466435854,"logger":"http.log.access","request":{"remote_ip":"203.0.113.7",REQUEST,"remote_ip":"192.0.2.99"}}
{"ts":1466435854,"logger":"http.log.access","request":{"remote_ip":"192.0.2.99",REQUEST},"request":{"remote_ip":"203.0.113.7",REQUEST}}
{"ts":1466435854,"logger":"http.log.access","request":{"remote_ip":"203.0.113.7",REQUEST},"\u0072equest":{"remote_ip":"192.0.2.99",REQUEST}}
{"ClientAddr":"203.0.113.7:1","RequestMethod":"GET","RequestPath":"/","time":"2016-06-20T15:17:34Z","ClientAddr":"192.0.2.99:1"}
{"time":"2016-06-20T15:17:34Z","remote_addr":"203.0.113.7","status":200,"ua":"x","remote_addr":"192.0.2.99"}
{"time":"2016-06-20T15:17:34Z","remote_addr":"203.0.113.7","status":200,"ua":"x","remote\u005faddr":"192.0.2.99"}
""".strip().split("\n")
)


@pytest.mark.parametrize("line", JSON_TWICE)
def test_a_key_that_stands_twice_names_nobody_else(line: bytes) -> None:
    json.loads(line)  # well-formed, as far as JSON goes
    for spec in ("caddy", "traefik", "json"):
        assert all(map(is_attacker, judge_of(spec).subjects([line]))), spec


@pytest.mark.parametrize("line", JSON_BOMBS, ids=range(len(JSON_BOMBS)))
def test_json_bombs_are_lines_like_others(line: bytes) -> None:
    for spec in ("caddy", "traefik", "json", "journal"):
        assert judge_of(spec).subjects([line]) <= {VICTIM, ATTACKER}  # these are no forgeries: the peer is what it is


# -- long lines --------------------------------------------------------------------------------------------------------

UNIT_BYTES = 256
FAKE_UNIT = f'{VICTIM} - - [{TIME}] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" "sqlmap/1.0"'.ljust(UNIT_BYTES).encode()


@pytest.mark.parametrize("piece_bytes", [1 << 12, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 1 << 20, 11 << 20])
@pytest.mark.parametrize("shift", [0, 1])
def test_the_rest_of_a_long_line_is_no_line(piece_bytes: int, shift: int) -> None:
    """10 MB of fake lines, one beginning at every likely place for a cut: cut once, skipped to the newline."""
    begun = http_line("combined, raw", "agent", b"x")[:-2]
    padded = begun.ljust(UNIT_BYTES - shift, b"x")
    data = padded + FAKE_UNIT * ((10 << 20) // UNIT_BYTES) + b'"\n' + http_line("combined", "agent", b"last") + b"\n"
    lines = Lines("log")
    batches = [
        batch for at in range(0, len(data), piece_bytes) for batch in lines.feed(data[at : at + piece_bytes])
    ]  # fmt: skip
    judge = judge_of("combined")
    taken = b"".join(batch.data for batch in batches)
    assert taken.count(b"\n") == 2
    assert max(map(len, taken.split(b"\n"))) <= MAX_LINE_BYTES
    subjects = judge.subjects(taken.splitlines())
    assert subjects == {ATTACKER}
    assert lines.line == 3


def test_a_line_of_ten_megabytes_is_judged_by_whom_it_is_from() -> None:
    """Should such a line reach the engine whole, it is a line."""
    sent = (FAKE_UNIT + b'"').replace(b'"', b'\\"') * ((10 << 20) // UNIT_BYTES)
    line = http_line("combined", "agent", b"SENT").replace(b"SENT", sent)
    named: set[str] = set()
    Engine(rules()).step(
        Batch("log", line + b"\n", 0, 1), by_name("combined"), ANCHOR, lambda finding: named.add(finding.subject)
    )
    assert named == {ATTACKER}


# -- what is printed ---------------------------------------------------------------------------------------------------

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
OBEYED = {*map(chr, range(32)), *map(chr, range(127, 160)), *BIDI, "\u2028", "\u2029", "\ufeff"} - {"\n"}


def hostile_log(writer: str) -> bytes:
    """All forgeries in all fields, as one server logs them; the sshd writers together are one server."""
    if writer == "sshd":
        rows = [sshd_line(each, sent) for each in SSHD_WRITERS for sent in FORGERIES]
    else:
        rows = [http_line(writer, field, sent) for field in HTTP_FIELDS for sent in FORGERIES]
    return b"".join(row.replace(b"\n", b"") + b"\n" for row in rows)


def said_by_tocsin(*arguments: str | Path) -> tuple[str, str]:
    """Standard output and error; ended as a command ends, not by a mistake of ours."""
    env = {**os.environ, "PYTHONUTF8": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "tocsin.cli.main", *map(str, arguments)], capture_output=True, check=False, env=env
    )
    assert ran.returncode in {0, os.EX_DATAERR}, ran.stderr
    return ran.stdout.decode(), ran.stderr.decode()


@pytest.mark.parametrize("writer", ["combined", "combined, raw", "vhost_combined, raw", "caddy", "sshd"])
def test_no_command_prints_what_a_terminal_obeys(writer: str, tmp_path: Path) -> None:
    log, everything = tmp_path / "hostile.log", tmp_path / "everything.toml"
    log.write_bytes(hostile_log(writer))
    everything.write_text(EVERYTHING)
    rule = "every-login" if writer == "sshd" else "every-request"
    given = ("--rules", everything, "--format", writer.partition(",")[0], log)
    for command in (
        ("replay", *given),
        ("replay", "--json", *given),
        ("rules", "test", rule, "-v", *given),
        ("rules", "test", rule, "--json", *given),
    ):
        out, err = said_by_tocsin(*command)
        assert ATTACKER in out
        assert not OBEYED & {*out, *err}, command
        if "--json" in command:
            assert out.isascii()
            for row in map(json.loads, out.splitlines()):
                assert row.get("action") != "ban" or is_attacker(row["subject"]), row


@pytest.mark.parametrize("writer", ["combined", "vhost_combined", "main", "caddy", "traefik", "sshd"])
def test_hostile_lines_do_not_decide_how_a_log_is_read(writer: str) -> None:
    """Nothing but forgeries in the lines by which the format is told."""
    guesses = sniff(hostile_log(writer).splitlines()[:200], ANCHOR)
    assert guesses[0].format.name == ("sshd-syslog" if writer == "sshd" else writer)
    assert guesses[0].share > 0.9


def test_a_file_name_is_hostile_too(tmp_path: Path) -> None:
    log = tmp_path / "\x1b]0;owned\x07\u202e.log"
    log.write_bytes(http_line("combined", "agent", b"x") + b"\n")
    for extra in ((), ("--json",)):
        out, err = said_by_tocsin("replay", log, *extra)
        assert out
        assert not OBEYED & {*out, *err}


# -- cost --------------------------------------------------------------------------------------------------------------

N = 40_000
FLOOR_S = 0.01
_HEAD = f'{ATTACKER} - - [{TIME}] "'.encode()
_TAIL = b' HTTP/1.1" 404 5 "-" "-"\n'


def _long(begin: bytes, unit: bytes, end: bytes = b"") -> Callable[[int], bytes]:
    """One line of n bytes, mostly repetitions of a unit, with the literals that rules look for."""
    return lambda n: _HEAD + b"GET /?" + begin + unit * (n // len(unit)) + end + _TAIL


def _many(make: Callable[[int], str]) -> Callable[[int], bytes]:
    """n bytes of short lines, the i-th of which `make` gives a request for."""
    return lambda n: b"".join(_HEAD + make(i).encode() + _TAIL for i in range(n // 60))


COSTLY: dict[str, Callable[[int], bytes]] = {
    "union": _long(b"union", b"/**/union", b"select"),
    "union blanks": _long(b"", b"union+", b"select null"),
    "comment that never ends": _long(b"union/*", b"*", b"/select"),
    "sleep": _long(b"", b"sleep((", b"1"),
    "quotes": _long(b"", b"%27+or+"),
    "numbers": _long(b"'+or+", b"1+", b"=1"),
    "script": _long(b"", b"<script ", b"alert("),
    "wget": _long(b"", b";wget+", b"http"),
    "busybox": _long(b";", b"busybox+"),
    "author": _long(b"", b"author=1x&"),
    "jndi": _long(b"", b"${${lower:j"),
    "dots": lambda n: _HEAD + b"GET /" + b"../" * (n // 3) + b"etc/passwd" + _TAIL,
    "percent dots": lambda n: _HEAD + b"GET /" + b"%2e%2e/" * (n // 7) + _TAIL,
    "double percent": lambda n: _HEAD + b"GET /" + b"%25" * (n // 3) + _TAIL,
    "slashes": lambda n: _HEAD + b"GET " + b"/" * n + b"xmlrpc.php" + _TAIL,
    "words": lambda n: _HEAD + b"GET " + b"/ " * (n // 2) + _TAIL,
    "backslashes": lambda n: _HEAD + b"GET /" + b"\\" * n + _TAIL,
    "escaped quotes": lambda n: _HEAD + b"GET /" + b'\\"' * (n // 2) + _TAIL,
    "unclosed quote": lambda n: _HEAD + b"GET /.env" + b" HTTP/1.1" * (n // 9) + b"\n",
    "no format": lambda n: b"/xmlrpc.php " * (n // 12) + b"\n",
    "empty lines": lambda n: b"\n" * (n // 10),
    "distinct paths": _many(lambda i: f"GET /{i}"),
    "distinct probes": _many(lambda i: f"GET /{i}/.env"),
    "one path": _many(lambda _: "GET /wp-login.php"),
    "escapes that break a block's skimming": _many(lambda i: 'GET /\\"' if i % 3 else "GET /\\"),
    "a quote too few": _many(lambda i: f'GET /{i} HTTP/1.1" 404 5 "' if i % 2 else f"GET /{i}"),
}


def cost_s(data: bytes, chosen: tuple[CompiledRule, ...]) -> float:
    """Seconds to judge a block, the best of several; the prefilter is compiled before."""
    form = by_name("combined", Proxies())
    best_s = float("inf")
    for _ in range(3):
        engine = Engine(chosen)
        engine.prepare(form, "")
        began_s = time.process_time()
        engine.step(Batch("log", data, 0, 1), form, ANCHOR, lambda _: None)
        best_s = min(best_s, time.process_time() - began_s)
    return best_s


@pytest.mark.parametrize("name", COSTLY)
def test_twice_the_bytes_cost_twice_the_time(name: str) -> None:
    """With all shipped rules; at most three times, or so little that noise is all there is to see."""
    shipped = tuple(compile_rule(rule) for rule in load_shipped())
    for _ in range(4):
        once_s, twice_s = (cost_s(COSTLY[name](n), shipped) for n in (N, 2 * N))
        if twice_s <= 3 * once_s + FLOOR_S:
            return
    pytest.fail(f"{once_s:.4f} s for {N} bytes, {twice_s:.4f} s for {2 * N}")


def test_the_clock_of_an_attackers_lines_cannot_make_others_late() -> None:
    """Stamps from the future move event time by the skew at most, where lines have an arrival."""
    judge = Engine(rules())
    form = by_name("combined", Proxies())
    arrival_ts = 1_466_435_854.0
    future = http_line("combined", "agent", b"x").replace(b"/2016:", b"/2036:")
    named: list[Finding] = []
    for line in (future, http_line("combined", "agent", b"x")):
        judge.step(Batch("log", line + b"\n", arrival_ts=arrival_ts), form, ANCHOR, named.append)
    assert judge.counts.late == 0
    assert max(finding.ts for finding in named) <= arrival_ts + judge.limits.skew_s
    assert all(later.ts >= earlier.ts - judge.limits.skew_s for earlier, later in pairwise(named))
