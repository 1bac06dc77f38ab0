"""A filter at work on one log: line in, failures out. Pure; the date finder and the budget are given.

The order of work is fail2ban's: the date is cut out; the ignoreregexes come first where they are few; the prefregex
decides, and may leave a part of the line to the others; the first failregex that matches wins, unless an ignoreregex
matches too; the connection's earlier lines are merged in; then it is said who it was.

Where fail2ban is otherwise: a host name never becomes an address, it is counted as it stands. A line without a date
tells its arrival (in a filter of several lines, the time of the line before). Connections end by the lines' own times,
so a replay finds what was found live. A group of the prefregex keeps its value where the failregex has it too, without
one (as in 1.1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_network

import msgspec

from tocsin.fail2ban.dates.dates import DateFinder
from tocsin.fail2ban.filters import tags
from tocsin.fail2ban.filters.cuts import UNCUT, Cuts, cuts_of
from tocsin.fail2ban.filters.prefilter import line_parts, patterns_of
from tocsin.fail2ban.filters.regexes import Budget, FilterError, Found, Kind, Regex, without_id
from tocsin.fail2ban.filters.sessions import Session, Sessions
from tocsin.fail2ban.filters.syntax import always_sets, can_begin
from tocsin.fail2ban.model import Failure, FilterSpec
from tocsin.formats.addresses import canonical

_CONTENT = "content"
_MOST_STARTS = 512
_IDENTIFYING = frozenset((*tags.ID_GROUPS, "mlfid"))
_SKIPPED = "skiplines"
_FIELD_OF = tags.FIELDS.get


class Trace(msgspec.Struct):
    """What became of a line, for people. `text`: without its date, which is `date` (start, end) of the line.
    `failregex` and `ignoreregex`: which of the filter's matched, from 0. `fields`: what was captured. `note`: in words.
    """

    text: str = ""
    ts: float = 0.0
    date: tuple[int, int] | None = None
    failregex: int | None = None
    ignoreregex: int | None = None
    fields: dict[str, str] = {}
    failures: tuple[Failure, ...] = ()
    note: str = ""


class _Line(msgspec.Struct):
    """A line of the buffer of a filter that looks at several at once."""

    text: str
    line: str
    ts: float


class _State(msgspec.Struct):
    sessions: dict[str, Session]
    lines: list[_Line]


class LineFilter:
    """`patterns`: regexes for raw lines (see prefilter), one of which occurs in every line that `take` could answer to
    or remember; None: every line matters. They are for an automaton; `simple_patterns` serve the same for `re`, and let
    more through. Of a pattern, `refined` is one for `re` that occurs in the same lines in question (b"": there is none)
    and `signs` are parts that do, the most telling one first. `quiet`: those of `patterns` whose regexes can only end a
    connection. `loud_patterns` are the others alone: enough for `take_block`, which finds the lines that end a
    connection itself.

    FilterError tells all that is wrong with the filter's regexes.
    """

    def __init__(self, spec: FilterSpec, dates: DateFinder, budget: Budget, *, encoding: str = "utf-8") -> None:
        self.spec = spec
        self.encoding = encoding
        self._dates = None if spec.logtype == "journal" else dates
        self._budget = budget
        self._problems: list[str] = []
        self._pref = self._compiled("prefregex", (spec.prefregex,) if spec.prefregex else ())
        self._fail = self._compiled("failregex", spec.failregex)
        self._ignore = self._compiled("ignoreregex", spec.ignoreregex)
        if not spec.failregex:
            self._problems.append("it has no failregex: write what a failure looks like, with <HOST> for the address")
        if self._problems:
            name = spec.name or "the jail's own"
            raise FilterError(tuple(f"filter {name}: {problem}" for problem in self._problems))
        self._starting: dict[str, tuple[tuple[int, Regex], ...]] = {}
        self._ignore_first = 0 < len(self._ignore) < len(self._fail) - 2
        cuts = UNCUT if self._dates is None else cuts_of(spec.datepattern)
        self._sessions = Sessions(whole=not cuts.within)
        self._lines: list[_Line] = []
        self.patterns: tuple[bytes, ...] | None = None
        self.loud_patterns: tuple[bytes, ...] | None = None
        self.simple_patterns: tuple[bytes, ...] | None = None
        self._endings: re.Pattern[bytes] | None = None
        self.quiet: frozenset[bytes] = frozenset()
        self.refined: dict[bytes, bytes] = {}
        self.signs: dict[bytes, tuple[bytes, ...]] = {}
        if spec.maxlines == 1:
            self._derive_patterns(cuts)

    def _compiled(self, kind: Kind, sources: Sequence[str]) -> tuple[Regex, ...]:
        compiled = []
        for source in sources:
            try:
                made = Regex(source, kind, self.spec.name, self._budget, usedns=self.spec.usedns,
                             lines=kind == "failregex" and self.spec.maxlines > 1)  # fmt: skip
            except ValueError as error:
                self._problems.append(str(error))
                continue
            compiled.append(made)
            if kind == "failregex" and not any(_IDENTIFYING & one.groups.keys() for one in (made, *self._pref)):
                self._problems.append(without_id(source))
        return tuple(compiled)

    def _derive_patterns(self, cuts: Cuts) -> None:
        pref = self._pref[0].tree if self._pref else None
        loud: dict[bytes, None] = dict.fromkeys(cuts.escapes)
        simple: dict[bytes, None] = dict.fromkeys(cuts.escapes)
        quiet: dict[bytes, bytes] = {}
        for regex in self._fail:
            patterns = patterns_of(line_parts(pref, _CONTENT, regex.tree), cuts)
            if patterns is None:
                return
            if self._only_ends(regex):
                quiet[patterns.full] = patterns.simple
            else:
                loud[patterns.full] = None
            simple[patterns.simple] = None
            if self.signs.setdefault(patterns.full, patterns.signs) != patterns.signs:
                self.signs[patterns.full] = ()
            if self.refined.setdefault(patterns.full, patterns.refined) != patterns.refined:
                self.refined[patterns.full] = b""
        self.simple_patterns = tuple(simple)
        self.loud_patterns = tuple(loud)
        self.patterns = (*loud, *(pattern for pattern in quiet if pattern not in loud))
        self.quiet = frozenset(quiet) - frozenset(loud)
        if self.quiet:
            self._endings = re.compile(b"|".join(quiet[pattern] for pattern in self.quiet))

    def _only_ends(self, regex: Regex) -> bool:
        """Whether a match matters only to a connection that is known: it is no failure, and ends it."""
        trees = [regex.tree, *(pref.tree for pref in self._pref)]

        def sets(name: str, *, empty: bool = False) -> bool:
            return any(always_sets(tree, name, empty=empty) for tree in trees)

        return sets("mlfid", empty=True) and sets("mlfforget") and (sets("nofail") or sets("mlfgained"))

    def prepare(self) -> None:
        """Compile what the first lines would wait for."""
        for regex in self.regexes:
            regex.prepare()
        if self._dates is not None:
            self._dates.prepare()

    @property
    def regexes(self) -> tuple[Regex, ...]:
        """All its regexes."""
        return (*self._pref, *self._fail, *self._ignore)

    # -- lines ---------------------------------------------------------------------------------------------------

    def take(self, line: str, now_ts: float) -> tuple[Failure, ...]:
        """The failures that a line (without its newline) tells of. `now_ts` is when it arrived: it tells missing years,
        and the time of lines without any."""
        if self._dates is None:
            return self._find(line + "\n", line, now_ts, None)
        found = self._dates.find(line, now_ts)
        if self.spec.maxlines > 1:
            dated = found is not None and found.start < found.end
            text = line[: found.start] + line[found.end :] if dated and found is not None else line
            ts = found.ts if dated and found is not None else self._lines[-1].ts if self._lines else now_ts
            return self._find_among(text, line, ts, None)
        if found is None:
            return self._find(line + "\n", line, now_ts, None)
        ts, start, end = found
        return self._find(f"{line[:start]}{line[end:]}\n", line, ts, None)

    def take_block(self, data: bytes, starts: Sequence[int], now_ts: float) -> list[tuple[int, tuple[Failure, ...]]]:
        """`take` for a block of whole lines, in order: (start, failures) of the lines that tell of any. `starts` are
        the lines in which `loud_patterns` occur; without any it must be called all the same while `watching`."""
        found: list[tuple[int, tuple[Failure, ...]]] = []
        if self._endings is None:
            for start in starts:
                self._take_at(data, start, now_ts, found)
            return found
        ahead = list(reversed(starts))
        done = -1
        with self._sessions.followed(data, self._endings) as following:
            while True:
                also = following.after(done)
                if not ahead and not also:
                    return found
                start = also.pop() if also and (not ahead or also[-1] <= ahead[-1]) else ahead.pop()
                if start > done:
                    self._take_at(data, start, now_ts, found)
                    done = start

    @property
    def set_aside(self) -> tuple[str, ...]:
        """The regexes and datepatterns that cost lines so much time that they are not used any more."""
        dates = () if self._dates is None else self._dates.set_aside
        return (*(each.regex for each in self._budget.set_aside), *dates)

    @property
    def watching(self) -> bool:
        """Whether connections are remembered whose ends `take_block` must see."""
        return self._endings is not None and len(self._sessions) > 0

    def _take_at(self, data: bytes, start: int, now_ts: float, found: list[tuple[int, tuple[Failure, ...]]]) -> None:
        line = data[start : data.find(b"\n", start)].decode(self.encoding, "replace")
        if failures := self.take(line, now_ts):
            found.append((start, failures))

    def explain(self, line: str, now_ts: float) -> Trace:
        """`take`, with what led to it."""
        trace = Trace(text=line, ts=now_ts)
        found = None if self._dates is None else self._dates.find(line, now_ts)
        if found is not None and found.start < found.end:
            trace.date = found.start, found.end
            trace.text = line[: found.start] + line[found.end :]
        if found is not None:
            trace.ts = found.ts
        if self.spec.maxlines > 1:
            if trace.date is None and self._lines:
                trace.ts = self._lines[-1].ts
            trace.failures = self._find_among(trace.text, line, trace.ts, trace)
        else:
            trace.failures = self._find(trace.text + "\n", line, trace.ts, trace)
        return trace

    def _find(self, text: str, line: str, ts: float, trace: Trace | None) -> tuple[Failure, ...]:
        if self._ignore_first and self._ignored(text, trace):
            return ()
        within = self._within(text, trace)
        if within is None:
            return ()
        text, before = within
        for i, regex in self._starting.get(text[0]) or self._start(text[0]):
            if regex.needle in text and (match := regex.search(text)) is not None:
                if trace is not None:
                    trace.failregex = i
                if self._ignore and self._ignored(text, trace):
                    return ()
                return self._failures({**before, **regex.captured(match)}, (line,), ts, trace)
        if trace is not None:
            trace.note = "no failregex matches"
        return ()

    def _within(self, text: str, trace: Trace | None) -> tuple[str, dict[str, str]] | None:
        """What the failregexes are to look at, and what the prefregex has captured; None where it does not match."""
        before: dict[str, str] = {}
        for pref in self._pref:
            match = pref.search(text)
            if match is None:
                if trace is not None:
                    trace.note = "the prefregex does not match"
                return None
            before = pref.captured(match)
            if content := before.pop(_CONTENT, None):
                text = content + "\n"
        return text, before

    def _start(self, sign: str) -> tuple[tuple[int, Regex], ...]:
        """The failregexes that can match a text which begins with a sign, with their places."""
        able = tuple((i, regex) for i, regex in enumerate(self._fail) if can_begin(regex.tree, sign))
        if len(self._starting) < _MOST_STARTS:
            self._starting[sign] = able
        return able

    def _find_among(self, text: str, line: str, ts: float, trace: Trace | None) -> tuple[Failure, ...]:
        """`_find` in the last lines together. Lines of a match are used up, those skipped in it stay."""
        self._lines.append(_Line(text, line, ts))
        del self._lines[: -self.spec.maxlines]
        lines = self._lines
        block = "".join(f"{one.text}\n" for one in lines)
        if self._ignore_first and self._ignored(block, trace):
            return ()
        within = self._within(block, trace)
        if within is None:
            return ()
        searched, before = within
        for i, regex in enumerate(self._fail):
            if regex.needle in searched and (match := regex.search(searched)) is not None:
                if trace is not None:
                    trace.failregex = i
                used = _lines_of(match, regex, searched) if searched is block else {len(lines) - 1}
                self._lines = [one for n, one in enumerate(lines) if n not in used]
                if self._ignore and self._ignored("".join(f"{lines[n].text}\n" for n in sorted(used)), trace):
                    return ()
                matched = tuple(lines[n].line for n in sorted(used))
                return self._failures({**before, **regex.captured(match)}, matched, ts, trace)
        if trace is not None:
            trace.note = "no failregex matches"
        return ()

    def _ignored(self, text: str, trace: Trace | None) -> bool:
        for i, regex in enumerate(self._ignore):
            if regex.needle in text and regex.search(text) is not None:
                if trace is not None:
                    trace.ignoreregex = i
                    trace.note = "an ignoreregex matches"
                return True
        return False

    def _failures(
        self, captured: dict[str, str], lines: tuple[str, ...], ts: float, trace: Trace | None
    ) -> tuple[Failure, ...]:
        mlfid = captured.get("mlfid")
        session: Session | None = None
        if mlfid is not None:
            session = self._sessions.merge(mlfid, captured, lines, ts)
            fields, quiet = session.fields, session.quiet
        else:
            fields = captured
            quiet = bool(fields.get("nofail"))
        if trace is not None:
            trace.fields = dict(fields)
        if quiet:
            if trace is not None:
                trace.note = "this is no failure; it is remembered of its connection"
            return ()
        who = self._who(fields)
        if who is None:
            if session is not None and fields.get("dns") is None:
                session.pending = True
            if trace is not None:
                trace.note = "a failure, but nobody is named; it waits for a line that does"
            return ()
        key, source_ip = who
        users = tuple(session.users) if session is not None else ()
        matches = tuple(session.matches) if session is not None else lines
        told: dict[str, str | None] = {_FIELD_OF(name, name): value for name, value in fields.items()}
        return (Failure(ts, key, source_ip, 1, told, matches, users),)

    def _who(self, fields: dict[str, str]) -> tuple[str, str | None] | None:
        """(key, address) of a failure; None where nobody is named, or only by a name where none is wanted."""
        fid = fields.get("fid")
        ip = fields.get("ip4") or fields.get("ip6")
        if ip is not None:
            source_ip = _address(ip, fields.get("cidr"))
            return (source_ip or ip, source_ip) if fid is None or fid == ip else (canonical(fid) or fid, source_ip)
        name = fields.get("dns")
        if name is not None:
            source_ip = canonical(name)
            if source_ip is None and self.spec.usedns == "no":
                return None
            return (source_ip or name, source_ip) if fid is None or fid == name else (canonical(fid) or fid, source_ip)
        if fid is None:
            return None
        source_ip = canonical(fid)
        return source_ip or fid, source_ip

    # -- state ---------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """What is remembered of earlier lines."""
        return msgspec.msgpack.encode(_State(self._sessions.dump(), self._lines))

    def load(self, data: bytes) -> None:
        """Takes up what `dump` gave; msgspec.DecodeError or ValidationError where it is not that."""
        state = msgspec.msgpack.decode(data, type=_State)
        self._sessions.load(state.sessions)
        self._lines = state.lines[-self.spec.maxlines :] if self.spec.maxlines > 1 else []


def _lines_of(match: Found, regex: Regex, block: str) -> set[int]:
    """The numbers of the lines that a match lies in, those skipped by <SKIPLINES> left out."""
    start = block.count("\n", 0, block.rfind("\n", 0, match.start() + 1) + 1)
    end = block.find("\n", max(match.end() - 1, 0)) + 1
    used = set(range(start, block.count("\n", 0, end or len(block))))
    for name in regex.groups:
        if name.startswith(_SKIPPED):
            first, last = match.span(name)
            if first >= 0:
                used -= set(range(block.count("\n", 0, first), block.count("\n", 0, last)))
    return used


@lru_cache(maxsize=4096)
def _address(text: str, cidr: str | None) -> str | None:
    """The canonical address, or the network where the line gives a prefix length."""
    address = canonical(text)
    if address is None or not cidr:
        return address
    try:
        network = ip_network(f"{address}/{int(cidr)}", strict=False)
    except ValueError:
        return address
    return address if network.prefixlen == network.max_prefixlen else str(network)
