"""All access logs together, as the reasoning asks for them: questions to the table of all requests.

Imports DuckDB (0.1 s): loaded only where there is an access log.
"""

# ruff: noqa: S608  statements are made of names of ours alone; values are parameters

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from tocsin.explain.evidence.blocks import Log
from tocsin.explain.evidence.durations import Numbers, Unit, unit_of
from tocsin.explain.evidence.files import Access, File
from tocsin.explain.evidence.gaps import Minute
from tocsin.explain.evidence.intake import Loader
from tocsin.explain.evidence.quoting import Lines
from tocsin.explain.model import Coverage, Group, Profile, Quote, Rate, Said, Step, say
from tocsin.formats import Anchor
from tocsin.model import Batch, Signature, Unparsed
from tocsin.rules.compiled import subject_of

_subject = subject_of(32, 64)
_LATEST_S = 600
MOST_GROUPS = 1_000_000
"""So many groups are counted at once; more would not fit into memory."""

MOST_TOGETHER = 190_000
"""Of no more requests, the groups of several spans are asked for together: as many as would come of each alone."""

_LEAST_MEETINGS = 5
_LOOKED_AT = 10_000
"""Lines of a class among which those of some addresses are looked for."""

_STAMPED_AT_END = ("nginx ", "caddy", "json")
_TAKEN = {
    ("seconds", True): say(
        "A number behind the user agent was taken for the duration in seconds, as nginx writes it, and the line's time"
        " for the request's end."
    ),
    ("seconds", False): say("A number behind the user agent was taken for the duration in whole seconds (%T)."),
    ("milliseconds", False): say("A number behind the user agent was taken for the duration in milliseconds."),
    ("microseconds", False): say("A number behind the user agent was taken for the duration in microseconds (%D)."),
}
_NONE = "null::integer"
_KEYS = (
    ("address", "vhost", "request", "status", "agent"),
    ("address", "vhost", "p.page", "status", _NONE),
    (_NONE, "vhost", "p.page", "status", _NONE),
)
"""What groups are told by, finest first; the page is the request without its query."""

_PAGED = "hits h left join pages p on p.id = h.request"
_FAILED = "status >= 500"
_TIMEOUT = "(status = 408 or (status = 400 and request in (select id from requests where method is null)))"
_REGEX_SIGNS = frozenset("\\.+*?()[]{}^$|/")


class AccessLogs:
    """See `explain.model.Accesses`; first all logs are added, then `finish` is called, then questions are answered."""

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        self._loader = Loader(anchor)
        self._quotes = Lines(self._loader.logs, self._loader.segments)
        self._notes: dict[int, Said] = {}
        self.start: float | None = None
        self.end: float | None = None
        self.requests = 0
        self.has_durations = False
        self.has_user_agents = False

    # -- filling -----------------------------------------------------------------------------------------------------

    def add_log(self, file: File, access: Access, vhost: str | None) -> int:
        """Announce a log; the number by which it is spoken of."""
        log = Log(file.name, access.format, file.path, vhost, access.word, file.group)
        return self._loader.add_log(log)

    def add(self, number: int, batch: Batch) -> None:
        """Some lines of a log."""
        self._loader.add(number, batch)

    def close(self) -> None:
        """All lines are in. The last of them are taken into the table while others do something else."""
        self._loader.close()

    def is_cut(self, number: int, line: bytes) -> bool:
        """Whether a log's last line is not whole. After `finish`."""
        return isinstance(self._loader.logs[number].format.parse(line, self._anchor), Unparsed)

    def finish(self) -> None:
        """The table is complete: durations become seconds, times the requests' starts."""
        self._loader.finish()
        groups: dict[object, list[int]] = {}
        for number, log in enumerate(self._loader.logs):
            groups.setdefault((log.group, log.format.name, log.word), []).append(number)
        for numbers in groups.values():
            self._start(self._loader.logs[numbers[0]], numbers)
        start, end, requests, took, agents = self._run(
            "select min(ts), max(ts), count(*), count(took) > 0, count(agent) > 0 from hits"
        )[0]
        self.start, self.end, self.requests = start, end, requests
        self.has_durations, self.has_user_agents = took, agents

    def _start(self, log: Log, numbers: list[int]) -> None:
        """Put one log's requests at their start, and their durations into seconds."""
        unit = Unit(1.0, "seconds", ends=log.format.name.startswith(_STAMPED_AT_END))
        where = f"source in ({', '.join(map(str, numbers))})"
        if log.word:
            found = self._run(
                f"""select count(took), quantile_disc(took, 0.02), median(took), quantile_disc(took, 0.98), max(took),
                    count(*) filter (took = 0), approx_count_distinct(took), bool_and(took = floor(took))
                from hits where {where} and took is not null"""
            )[0]
            judged = unit_of(Numbers(*found)) if found[0] else None
            if judged is None:
                self._run(f"update hits set took = null where {where}")
                return
            unit = judged
            self._notes.update(dict.fromkeys(numbers, _TAKEN[unit.name, unit.ends]))
        if unit.divisor != 1.0:
            self._run(f"update hits set took = took / {unit.divisor} where {where}")
        if unit.ends:
            self._run(f"update hits set ts = ts - took where {where} and took is not null")

    # -- about the logs ----------------------------------------------------------------------------------------------

    def days(self) -> list[tuple[float, int]]:
        """The days that lines named with their zone: when each began, and its offset to UTC in seconds."""
        return self._run("select base, shift from work.days where base is not null order by base")

    def offset_of(self, heard: list[tuple[str, float]]) -> int | None:
        """How far ahead of these requests a log's clock is, whose lines named their clients: in whole quarters of an
        hour, where most clients that it named came at just that distance. None where they tell nothing.
        """
        found = self._run(
            """select (round((w.wall - h.ts) / 900) * 900)::integer as ahead, count(distinct w.number) as times
            from (select unnest($1::varchar[]) as client, unnest($2::double[]) as wall,
                unnest($3::integer[]) as number) w
                join addresses a on a.text = w.client join hits h on h.address = a.id
            where abs(w.wall - h.ts) < 54000 and abs(w.wall - h.ts - round((w.wall - h.ts) / 900) * 900) <= 3
            group by 1 order by 2 desc, 1 limit 2""",
            [client for client, _ in heard],
            [wall for _, wall in heard],
            list(range(len(heard))),
        )
        if not found or found[0][1] < _LEAST_MEETINGS or (len(found) > 1 and found[1][1] > found[0][1] / 2):
            return None
        return int(found[0][0])

    def coverage(self) -> list[Coverage]:
        """What each log has to say, in the order in which they were added; without gaps."""
        spans = {row[0]: row[1:] for row in self._run("select source, min(ts), max(ts) from hits group by source")}
        covers = []
        for number, log in enumerate(self._loader.logs):
            start, end = spans.get(number, (None, None))
            notes = [self._notes[number]] if number in self._notes else []
            if log.sample:
                notes.append(say("A line that does not fit: {line}", line=log.sample))
            covers.append(Coverage(log.name, "access", start, end, log.lines, log.unparsed, (), tuple(notes)))
        return covers

    def minutes(self) -> list[list[Minute]]:
        """The minutes in which each log has requests, ascending."""
        found: list[list[Minute]] = [[] for _ in self._loader.logs]
        rows = self._run(
            "select source, floor(ts / 60)::bigint as minute, min(ts), max(ts) from hits group by 1, 2 order by 1, 2"
        )
        for source, *minute in rows:
            found[source].append(Minute(*minute))
        return found

    # -- questions ---------------------------------------------------------------------------------------------------

    def rates(self, step_s: float, start: float | None = None, end: float | None = None) -> list[Rate]:
        """See `Accesses`."""
        rows = self._run(
            f"""select floor(ts / $1) * $1, count(*), count(*) filter ({_FAILED}), count(*) filter ({_TIMEOUT}),
                sum(took), max(took)
            from hits where ts >= $2 and ts < $3 group by 1 order by 1""",
            step_s,
            -1e18 if start is None else start,
            1e18 if end is None else end,
        )
        return [Rate(*row) for row in rows]

    def groups(self, start: float, end: float, limit: int = 200_000) -> list[Group]:
        """See `Accesses`."""
        return self._groups([start, end], self._fineness(start, end, limit), limit)[0]

    def groups_between(self, edges: Sequence[float]) -> list[list[Group]]:
        """See `Accesses`."""
        if self._few(edges[0], edges[-1], MOST_TOGETHER):
            return self._groups(edges, 0, MOST_TOGETHER)
        return [self.groups(*span) for span in pairwise(edges)]

    def _groups(self, edges: Sequence[float], number: int, limit: int) -> list[list[Group]]:
        """The groups of the spans between edges, by the keys of that number."""
        address, vhost, request, status, agent = _KEYS[number]
        spans = range(len(edges) - 1)
        span = " ".join(f"when ts < ${place + 2} then {place}" for place in spans)
        rows = self._run(
            f"""select key.span, a.text as ip, v.text as host, r.method, r.path,
                {"''" if number else "r.query"} as query, r.protocol, g.status, u.text as agent,
                g.* exclude (key, status)
            from (
                select struct_pack(span := case {span} end, address := {address}, vhost := {vhost},
                    request := {request}, agent := {agent}) as key,
                    {status} as status, count(*) as requests, sum(took), min(ts), max(ts)
                from {_PAGED if number else "hits"} where ts >= $1 and ts < ${len(edges)}
                group by 1, 2 order by requests desc, 1, 2 limit {limit:d}
            ) g left join addresses a on a.id = key.address left join vhosts v on v.id = key.vhost
                left join requests r on r.id = key.request left join agents u on u.id = key.agent
            order by requests desc, ip, host, path, query, agent, status, method, protocol""",
            *edges,
        )
        found: list[list[Group]] = [[] for _ in spans]
        for place, *row in rows:
            found[place].append(Group(*row))
        return found

    def _few(self, start: float, end: float, enough: float) -> bool:
        """Whether a span holds no more requests than that."""
        if self.requests <= enough:
            return True
        number = self._run("select count(*) from hits where ts >= $1 and ts < $2", start, end)[0][0]
        return bool(number <= enough)

    def _fineness(self, start: float, end: float, limit: int) -> int:
        """By which keys the requests of a span are grouped: the finest that make few enough groups."""
        enough = 0.95 * limit  # an estimate is off by a few hundredths
        if self._few(start, end, enough):
            return 0
        for number, keys in enumerate(_KEYS):
            about = self._run(
                f"select approx_count_distinct(hash({', '.join(keys)})) from {_PAGED} where ts >= $1 and ts < $2",
                start,
                end,
            )[0][0]
            if about <= (MOST_GROUPS if number else enough):
                break
        return number

    def steps(self, step_s: float, start: float, end: float) -> list[Step]:
        """See `Accesses`."""
        rows = self._run(
            """select $1 + g.step * $3, r.method, r.path, r.query, v.text, u.text, g.requests from (
                select floor((ts - $1) / $3)::bigint as step, request, vhost, agent, count(*) as requests
                from hits where ts >= $1 and ts < $2 group by all
            ) g left join requests r on r.id = g.request left join vhosts v on v.id = g.vhost
                left join agents u on u.id = g.agent order by all""",
            start,
            end,
            step_s,
        )
        return [Step(*row) for row in rows]

    def took(self, signature: Signature, start: float, end: float) -> tuple[float, float]:
        """See `Accesses`."""
        where, values = _class(signature, start, end)
        rows = self._run(
            f"""with written as (
                select line, ts, request, coalesce(took, max(ts) over (
                    partition by source order by line rows between unbounded preceding and current row) - ts) as held
                from hits where ts >= $1 - {_LATEST_S} and ts < $2 + {_LATEST_S}
            ), ours as (select line from hits where {where})
            select avg(held) filter (o.line is not null), avg(held) filter (o.line is null and not r.asset)
            from written w left join ours o on o.line = w.line left join requests r on r.id = w.request
            where w.ts >= $1 and w.ts < $2""",
            *values,
        )
        ours, others = rows[0]
        return ours or 0.0, others or 0.0

    def profiles(self, start: float, end: float, limit: int = 200_000) -> list[Profile]:
        """See `Accesses`."""
        return self._profiles("h.ts >= $1 and h.ts < $2 and h.address is not null", [start, end], limit)

    def profiles_of(self, addresses: list[str]) -> list[Profile]:
        """See `Accesses`."""
        wanted = "h.address in (select id from addresses where text in (select unnest($1::varchar[])))"
        return self._profiles(wanted, [addresses], len(addresses))

    def _profiles(self, where: str, values: list[Any], limit: int) -> list[Profile]:
        rows = self._run(
            f"""select a.text, p.* exclude (address) from (
                select h.address, count(*) as requests,
                    count(*) filter (r.method in ('GET', 'HEAD') and not r.asset), count(*) filter (r.asset),
                    count(*) filter (r.method = 'POST'), count(*) filter (h.referred),
                    count(*) filter (h.status >= 400), count(distinct h.agent), min(h.ts), max(h.ts)
                from hits h left join requests r on r.id = h.request where {where} group by 1
                order by requests desc limit {limit:d}
            ) p join addresses a on a.id = p.address order by requests desc, a.text""",
            *values,
        )
        return [Profile(*row) for row in rows]

    def hits(self, signature: Signature, start: float, end: float) -> tuple[int, int]:
        """See `Accesses`."""
        where, values = _class(signature, start, end)
        requests, addresses = self._run(f"select count(*), count(distinct address) from hits where {where}", *values)[0]
        return requests, addresses

    def actors(self, signature: Signature, start: float, end: float) -> list[tuple[str, int]]:
        """See `Accesses`."""
        where, values = _class(signature, start, end)
        return self._run(
            f"""select a.text, c.requests from
                (select address, count(*) as requests from hits where {where} group by 1) c
                join addresses a on a.id = c.address order by c.requests desc, a.text""",
            *values,
        )

    def quotes(
        self, signature: Signature, start: float, end: float, limit: int = 3, by: Collection[str] = ()
    ) -> list[Quote]:
        """See `Accesses`."""
        where, values = _class(signature, start, end)
        rows = self._run(
            f"""select ts, line, text from (
                select ts, line, address from hits where {where} order by ts, line limit {_LOOKED_AT if by else limit:d}
            ) h left join addresses a on a.id = h.address order by ts, line""",
            *values,
        )
        theirs = [row for row in rows if not by or (row[2] and _subject(row[2]) in by)]
        found = [(ts, self._quotes.line(number)) for ts, number, _ in theirs[:limit]]
        return [Quote(ts, *line) for ts, line in found if line is not None]

    def _run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._loader.table.run(sql, values)


def _class(signature: Signature, start: float, end: float) -> tuple[str, list[object]]:
    """A condition on `hits`, and what stands in it."""
    tests = ["ts >= $1", "ts < $2"]
    values: list[object] = [start, end]

    def value(what: object) -> str:
        values.append(what)
        return f"${len(values)}"

    request: list[str] = []
    if signature.method is not None:
        request.append(f"method = {value(signature.method)}")
    if signature.path is not None:
        path = signature.path
        request.append(
            f"regexp_full_match(path, {value(_path_regex(path))}, 's')" if "*" in path else f"path = {value(path)}"
        )
    if signature.query is not None:
        request.append(
            f"contains('&' || query || '&', {value(_pair(signature.query))})" if signature.query else "query = ''"
        )
    if request:
        tests.append(f"request in (select id from requests where {' and '.join(request)})")
    if signature.vhost is not None:
        tests.append(f"vhost in (select id from vhosts where text = {value(signature.vhost)})")
    if signature.user_agent is not None:
        agent = signature.user_agent
        found = f"agent in (select id from agents where contains(text, {value(agent)}))" if agent else "agent is null"
        tests.append(found)
    return " and ".join(tests), values


def _pair(query: str) -> str:
    """What to look for in a query between two `&`, so that a pair of it, or the name of one, is found whole."""
    return f"{'' if query.startswith('=') else '&'}{query}{'' if query.endswith('=') else '&'}"


def _path_regex(path: str) -> str:
    """A path in which `*` stands for a part of one segment."""
    return "[^/]*".join("".join(f"\\{s}" if s in _REGEX_SIGNS else s for s in part) for part in path.split("*"))
