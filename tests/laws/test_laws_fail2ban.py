"""Laws of fail2ban's filters: the prefilter loses nothing, no text breaks one, no client chooses whom it bans."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.detect.books import Counts
from tocsin.detect.engine import Engine
from tocsin.fail2ban.dates.dates import DateFinder
from tocsin.fail2ban.filters.filter import LineFilter
from tocsin.fail2ban.filters.regexes import Budget
from tocsin.fail2ban.model import Failure, FilterSpec, Jail, Loaded
from tocsin.fail2ban.rules import rules_of
from tocsin.formats import Anchor, RawLines
from tocsin.model import Batch, Finding

sys.path.append(str(Path(__file__).parents[1] / "conformance"))
from samples import NOW_TS, Gate, Options, checks_of, filter_names, filter_of

PIECES = ("from", "user", "root", " ", "  ", "192.0.2.66", "2001:db8::5", "[", "]", '"', "'", ":", "client", "failed",
          "for", "invalid", "port 22", "é", "\t", "Jun 20 11:00:00", "2005-08-14T11:58:58", "sshd[1234]: ", "not found",
          "example.org", "::ffff:192.0.2.9", "(", ")", "\u212a", "ſ", "\udcff", " 6/May/2024:11:22:33 ",
          "+0100 May  6 11:22:33")  # fmt: skip


def mutated(line: str, rng: random.Random) -> str:
    """A line of which something is missing, added, doubled, changed or moved."""
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(line) + 1)
        end = min(len(line), at + rng.choice((1, 1, 2, 5, 20)))
        kind = rng.randrange(5)
        if kind == 0:
            line = line[:at] + line[end:]
        elif kind == 1:
            line = line[:at] + rng.choice(PIECES) + line[at:]
        elif kind == 2:
            line = line[:end] + line[at:]
        elif kind == 3:
            line = line[:at] + chr(rng.randrange(32, 300)) + line[end:]
        else:
            words = line.split(" ")
            rng.shuffle(words)
            line = " ".join(words)
    return line


def sets_of(name: str) -> dict[str, tuple[Options, list[str]]]:
    """The option sets of a filter, with the sample lines of each."""
    sets: dict[str, tuple[Options, list[str]]] = {}
    for check in checks_of(name):
        sets.setdefault(check.options.key, (check.options, []))[1].append(check.line)
    return sets


def plain(line_filter: LineFilter, raw: bytes) -> tuple[Failure, ...]:
    return line_filter.take(raw.decode("utf-8", "replace"), NOW_TS)


@pytest.mark.parametrize("name", filter_names())
def test_the_prefilter_loses_nothing(name: str) -> None:
    """Over samples and what becomes of them: a filter behind its patterns answers as one that sees every line; line by
    line, with quiet lines held back, and a block at a time."""
    rng = random.Random(name)
    for options, lines in sets_of(name).values():
        raw = [mutated(line, rng).replace("\n", " ").encode("utf-8", "surrogateescape") for line in lines for _ in "ab"]
        seeing = filter_of(options, name)
        expected = [plain(seeing, one) for one in raw]
        for simple in (False, True):
            gate = Gate(filter_of(options, name), simple=simple)
            assert [gate.take_raw(one) for one in raw] == expected
        assert list(by_blocks(filter_of(options, name), raw, rng)) == [
            (number, failures) for number, failures in enumerate(expected) if failures
        ]


def by_blocks(
    line_filter: LineFilter, raw: list[bytes], rng: random.Random
) -> Iterator[tuple[int, tuple[Failure, ...]]]:
    """The answers of `take_block` to the lines in blocks: (number of the line, failures)."""
    gate = Gate(line_filter, loud=True)
    begin = 0
    while begin < len(raw):
        end = begin + rng.randrange(1, 40)
        block = raw[begin:end]
        starts = [sum(len(line) + 1 for line in block[:n]) for n in range(len(block))]
        asked = [start for start, line in zip(starts, block, strict=True) if gate.mask(line)]
        if asked or line_filter.watching:
            for start, failures in line_filter.take_block(b"".join(line + b"\n" for line in block), asked, NOW_TS):
                yield begin + starts.index(start), failures
        begin = end


# -- connections -----------------------------------------------------------------------------------------------------

SAYINGS = (
    "bad password for {user}",
    "bad password for {user} from 192.0.2.{n}",
    "hello from 192.0.2.{n}",
    "key refused for {user}",
    "bye {user}",
    "bye",
    "giving up on 192.0.2.{n}",
    "welcome {user} from 192.0.2.{n}",
    "something else",
)
DAEMON = FilterSpec(
    "daemon",
    (
        "^bad password for <F-USER>\\S+</F-USER>(?: from <HOST>)?$",
        "^<F-NOFAIL>hello</F-NOFAIL> from <HOST>$",
        "^<F-NOFAIL>key refused</F-NOFAIL> for <F-USER>\\S+</F-USER>$",
        "^<F-MLFFORGET><F-NOFAIL>bye</F-NOFAIL></F-MLFFORGET>(?: <F-USER>\\S+</F-USER>)?$",
        "^<F-MLFFORGET>giving up</F-MLFFORGET> on <HOST>$",
        "^<F-MLFFORGET><F-MLFGAINED>welcome</F-MLFGAINED></F-MLFFORGET> <F-USER>\\S+</F-USER> from <HOST>$",
    ),
    prefregex="^<F-MLFID> ?myhost daemon(?:\\[\\d+\\])?: </F-MLFID><F-CONTENT>.+</F-CONTENT>$",
    datepattern="{^LN-BEG}EPOCH",
)


def daemon(datepattern: str | None = DAEMON.datepattern) -> LineFilter:
    spec = FilterSpec(DAEMON.name, DAEMON.failregex, prefregex=DAEMON.prefregex, datepattern=datepattern)
    return LineFilter(spec, DateFinder(datepattern, UTC), Budget())


@pytest.mark.parametrize("datepattern", ["{^LN-BEG}EPOCH", None])
@pytest.mark.parametrize("marked", [True, False])
def test_what_is_remembered_is_the_same_by_blocks(datepattern: str | None, *, marked: bool) -> None:
    """Connections that run side by side, with process numbers or without: whichever lines are held back."""
    rng = random.Random(3)
    for _ in range(60):
        lines = [
            f"{1_700_000_000 + second * rng.choice((1, 1, 30))} myhost daemon"
            + (f"[{rng.randrange(rng.choice((5, 40)))}]: " if marked else ": ")
            + rng.choice(SAYINGS).format(user=rng.choice("ab"), n=rng.randrange(3))
            for second in range(rng.randrange(1, 60))
        ]
        raw = [line.encode() for line in lines]
        seeing = daemon(datepattern)
        expected = [plain(seeing, one) for one in raw]
        gate = Gate(daemon(datepattern))
        assert [gate.take_raw(one) for one in raw] == expected
        found = list(by_blocks(daemon(datepattern), raw, rng))
        assert found == [(number, failures) for number, failures in enumerate(expected) if failures]


def recorded(engine: Engine, batches: list[Batch], *, ahead: bool) -> tuple[list[Finding], Counts]:
    """The findings in all batches, with the lines that prove them, and the counts; `ahead`: of what another engine left
    of them, and said of them."""
    found: list[Finding] = []

    def on_finding(finding: Finding) -> float:
        found.append(finding)
        return finding.ts + 20

    looking, fmt, anchor = engine_of(), RawLines(), Anchor(NOW_TS, UTC)
    for n, batch in enumerate(batches):
        left, looked = looking.look(batch, fmt, anchor, whole=n == 2) if ahead else (batch, None)
        engine.step(left, fmt, anchor, on_finding, looked)
    return found, engine.counts


def engine_of() -> Engine:
    jails = [
        Jail(name, FilterSpec(name, fail, prefregex=DAEMON.prefregex, datepattern=DAEMON.datepattern),
             logpath=("log",), maxretry=retry, findtime_s=600.0)
        for name, fail, retry in (("daemon", DAEMON.failregex, 2), ("hello", ("^hello from <HOST>$",), 3))
    ]  # fmt: skip
    return Engine(rules_of(Loaded("", tuple(jails)), UTC).rules)


def test_what_is_left_out_beforehand_is_of_no_account() -> None:
    """Of a log of which few lines matter only these are handed over: the findings, the numbers and places of their
    lines and what was counted are the same. Also where a line that was to end a connection only tells of a failure."""
    rng = random.Random(5)
    left_out = 0
    for _ in range(60):
        batches: list[Batch] = []
        offset = number = 0
        for _ in range(rng.randrange(1, 6)):
            lines = [
                f"{1_700_000_000 + number + n} myhost daemon[{rng.randrange(6)}]: "
                + (rng.choice(SAYINGS) if rng.random() < 0.3 else "something else, " * 9).format(
                    user=rng.choice("ab"), n=rng.randrange(3)
                )
                for n in range(rng.randrange(60))
            ]
            data = "".join(line + "\n" for line in lines).encode()
            batches.append(Batch("log", data, offset, number + 1))
            offset, number = offset + len(data), number + len(lines)
        assert recorded(engine_of(), batches, ahead=True) == recorded(engine_of(), batches, ahead=False)
        left_out += sum(
            len(batch.data) - len(engine_of().look(batch, RawLines(), Anchor(NOW_TS, UTC), whole=False)[0].data)
            for batch in batches
        )
    assert left_out > 10_000


# -- any text --------------------------------------------------------------------------------------------------------

TOTAL = {
    name: filter_of(Options("", {}), name)
    for name in ("sshd", "apache-auth", "dovecot", "mongodb-auth", "named-refused")
}


@settings(max_examples=300, derandomize=True)
@given(
    st.sampled_from(sorted(TOTAL)), st.text(max_size=300) | st.lists(st.sampled_from(PIECES)).map("".join), st.floats()
)
def test_no_text_breaks_a_filter(name: str, text: str, now_ts: float) -> None:
    line = text.replace("\n", " ")
    now_ts = now_ts if 0 <= now_ts < 4e9 else NOW_TS
    for failure in TOTAL[name].take(line, now_ts):
        assert failure.matches[-1] == line
        assert failure.key


# -- forgeries -------------------------------------------------------------------------------------------------------

VICTIM = "192.0.2.1"
CLIENT = "203.0.113.9"
FORGERIES = [
    tuple(line.split(": ", 1))
    for line in Path(__file__).with_name("fail2ban_forgeries.txt").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("name", "line"), FORGERIES)
def test_nobody_has_another_banned(name: str, line: str) -> None:
    """In each line a client has written the victim's address into what it controls."""
    assert VICTIM in line
    for failure in filter_of(Options("", {}), name).take(line, NOW_TS):
        assert failure.source_ip != VICTIM, failure


def test_forgers_are_mostly_found() -> None:
    found = [failure for name, line in FORGERIES for failure in filter_of(Options("", {}), name).take(line, NOW_TS)]
    assert sum(failure.source_ip == CLIENT for failure in found) >= len(FORGERIES) // 3
