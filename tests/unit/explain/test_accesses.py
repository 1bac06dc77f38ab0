"""Questions to the table of requests, against the same answers worked out from the lines by hand."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tocsin.explain.evidence import accesses
from tocsin.explain.evidence.accesses import AccessLogs
from tocsin.explain.evidence.durations import Numbers, unit_of, word_of
from tocsin.explain.evidence.files import Typing, find
from tocsin.formats import Anchor
from tocsin.model import Signature
from tocsin.sources.finished import read_finished

ANCHOR = Anchor(1_466_500_000.0, UTC)
BASE_TS = 1_466_421_600  # 20 June 2016, 11:20 UTC
ALL = (0.0, 2e9)


def line(
    at_s: int,
    client: str = "192.0.2.1",
    request: str = "GET / HTTP/1.1",
    status: int = 200,
    referer: str = "-",
    agent: str = "Firefox",
    tail: str = "",
) -> str:
    when = datetime.fromtimestamp(BASE_TS + at_s, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'{client} - - [{when}] "{request}" {status} 100 "{referer}" "{agent}"{tail}\n'


def load(*paths: Path, vhost: str | None = None) -> AccessLogs:
    logs = AccessLogs(ANCHOR)
    typing = Typing(ANCHOR)
    for file in find(paths).files:
        access = typing.of(file)
        number = logs.add_log(file, access, vhost)  # type: ignore[arg-type]
        for batch in read_finished([Path(file.path)]):
            logs.add(number, batch)
    logs.finish()
    return logs


LINES = (
    line(0),
    line(1, request="GET /style.css HTTP/1.1", referer="https://www.example.org/"),
    line(2, "192.0.2.2", "POST /xmlrpc.php HTTP/1.0", 200, agent="Googlebot"),
    line(3, "192.0.2.3", "POST /xmlrpc.php HTTP/1.0", 503, agent="Googlebot"),
    line(61, "192.0.2.2", "POST /xmlrpc.php HTTP/1.0", 500, agent="-"),
    line(62, "192.0.2.4", "-", 408, agent="-"),
    line(63, "192.0.2.4", "\\x16\\x03", 400, agent="-"),
    line(64, "192.0.2.5", "GET /shop/17/view?id=3&x=%20 HTTP/1.1", 404),
    line(65, "192.0.2.5", "GET /shop/18/view HTTP/1.1", 200, referer="https://www.example.org/a?b"),
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> AccessLogs:
    path = tmp_path_factory.mktemp("logs") / "access.log"
    path.write_text("".join(LINES))
    return load(path, vhost="www.example.org")


def test_what_there_is(logs: AccessLogs) -> None:
    assert (logs.start, logs.end, logs.requests) == (BASE_TS, BASE_TS + 65, len(LINES))
    assert logs.has_user_agents
    assert not logs.has_durations


def test_rates_by_step(logs: AccessLogs) -> None:
    first, second = logs.rates(60)
    assert (first.ts, first.requests, first.failed, first.timeouts) == (BASE_TS, 4, 1, 0)
    assert (second.ts, second.requests, second.failed, second.timeouts) == (BASE_TS + 60, 5, 1, 2)
    assert first.busy_s is None
    assert [rate.requests for rate in logs.rates(60, BASE_TS + 2, BASE_TS + 62)] == [2, 1]


def test_groups_and_what_is_dropped_where_there_are_too_many(logs: AccessLogs) -> None:
    groups = logs.groups(*ALL)
    assert sum(group.requests for group in groups) == len(LINES)
    shop = next(group for group in groups if group.query)
    assert (shop.path, shop.query, shop.status, shop.vhost) == ("/shop/17/view", "id=3&x=%20", 404, "www.example.org")
    assert next(group.user_agent for group in groups if group.status == 500) is None
    few = logs.groups(*ALL, limit=3)
    assert len(few) == 3
    assert {(group.query, group.user_agent) for group in few} == {("", None)}


def test_groups_of_spans_are_those_of_each(logs: AccessLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = [float(BASE_TS + at_s) for at_s in (-60, 1, 3, 3, 62, 99)]
    each = [logs.groups(*span) for span in pairwise(edges)]
    assert [sum(group.requests for group in groups) for groups in each] == [1, 2, 0, 2, 4]
    assert logs.groups_between(edges) == each
    monkeypatch.setattr(accesses, "MOST_TOGETHER", 3)
    assert logs.groups_between(edges) == each


def test_profiles_tell_visitors_from_the_rest(logs: AccessLogs) -> None:
    found = {profile.source_ip: profile for profile in logs.profiles(*ALL)}
    visitor, attacker = found["192.0.2.1"], found["192.0.2.2"]
    assert (visitor.pages, visitor.assets, visitor.posts, visitor.referred, visitor.agents) == (1, 1, 0, 1, 1)
    assert (attacker.posts, attacker.failed, attacker.first_ts) == (2, 1, BASE_TS + 2)
    assert logs.profiles_of(["192.0.2.2", "203.0.113.1"]) == [attacker]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (Signature(method="POST", path="/xmlrpc.php"), (3, 2)),
        (Signature(path="/shop/*/view"), (2, 1)),
        (Signature(path="/shop/1*/view", query=""), (1, 1)),
        (Signature(path="/shop*"), (0, 0)),
        (Signature(query="id="), (1, 1)),
        (Signature(query="d="), (0, 0)),
        (Signature(query="id=3"), (1, 1)),
        (Signature(query="id=30"), (0, 0)),
        (Signature(query="x=%"), (0, 0)),
        (Signature(query="x="), (1, 1)),
        (Signature(query="="), (1, 1)),
        (Signature(user_agent="oogle"), (2, 2)),
        (Signature(user_agent="%"), (0, 0)),
        (Signature(vhost="www.example.org"), (9, 5)),
        (Signature(vhost="example.org"), (0, 0)),
    ],
)
def test_hits_and_actors_of_a_class(logs: AccessLogs, signature: Signature, expected: tuple[int, int]) -> None:
    assert logs.hits(signature, *ALL) == expected
    actors = logs.actors(signature, *ALL)
    assert (sum(requests for _, requests in actors), len(actors)) == expected


@pytest.mark.parametrize("packed", [False, True])
def test_quotes_are_the_lines_themselves(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "access.log"
    text = "".join(line(number // 3, request=f"GET /{number} HTTP/1.1") for number in range(60_000))
    path.write_bytes(gzip.compress(text.encode(), 1) if packed else text.encode())
    logs = load(path)
    first, second = (logs.quotes(Signature(path=f"/{number}"), *ALL)[0] for number in (0, 54_321))
    assert (first.line, first.text) == (1, text.split("\n")[0])
    assert (second.source, second.line, second.text) == (str(path), 54_322, text.split("\n")[54_321])
    assert [quote.line for quote in logs.quotes(Signature(), *ALL)] == [1, 2, 3]


def test_quotes_are_of_those_who_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    comers = ("192.0.2.1", "192.0.2.2", "2001:db8::5", "192.0.2.1", "2001:db8::6", "2001:db8:0:1::5")
    path.write_text("".join(line(number, comer) for number, comer in enumerate(comers)))
    logs = load(path)
    assert [quote.line for quote in logs.quotes(Signature(), *ALL, by={"192.0.2.2", "2001:db8::/64"})] == [2, 3, 5]
    assert logs.quotes(Signature(), *ALL, by={"192.0.2.3"}) == []


def test_a_line_that_is_gone_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("".join(LINES))
    logs = load(path)
    path.unlink()
    assert logs.quotes(Signature(), *ALL) == []


@pytest.mark.parametrize(
    ("tails", "duration_s", "shift_s"),
    [
        ([" 0.250", " 1.500", " 0.003"], 1.5, 1.5),  # nginx: the line's time is the end
        ([" 250000", " 1500000", " 3100"], 1.5, 0.0),  # %D
        ([" 250", " 1500", " 3"], 1.5, 0.0),  # milliseconds
        ([" rt=0.250", " rt=1.500", " rt=0.003"], 1.5, 1.5),
        ([" 0", " 2", " 0"], 2.0, 0.0),  # %T
    ],
)
def test_appended_durations_by_their_size(tmp_path: Path, tails: list[str], duration_s: float, shift_s: float) -> None:
    path = tmp_path / "access.log"
    path.write_text("".join(line(number, tail=tails[number % 3]) for number in range(30)))
    logs = load(path)
    assert logs.has_durations
    assert logs.rates(60)[0].slowest_s == pytest.approx(duration_s)
    assert logs.end == pytest.approx(BASE_TS + 29 - (0.003 if shift_s else 0))
    assert logs.coverage()[0].notes


@pytest.mark.parametrize("tail", [" 512 1234", " 443", ' "-" x', ""])
def test_what_is_no_duration_is_not_taken_for_one(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "access.log"
    path.write_text("".join(line(number, tail=tail) for number in range(30)))
    assert not load(path).has_durations


def test_units() -> None:
    assert word_of([b'"x" 5 1', b'"x" 5 1']) == 0
    assert word_of([b'"x" - 0.1', b'"x" - 0.2']) == -1
    assert word_of([b'"x" 0.1 -', b'"x" 0.2 -']) == 1
    assert word_of([b'"x"']) == 0
    slow = unit_of(Numbers(1000, 130, 900, 90_000, 200_000, 0, 800, whole=True))
    assert slow is not None
    assert slow.name == "microseconds"


def test_json_durations_end_at_the_line(tmp_path: Path) -> None:
    request = '{"remote_ip":"192.0.2.1","method":"GET","uri":"/"}'
    entry = '{{"ts":{ts},"logger":"http.log.access","request":{request},"duration":0.5,"status":200}}\n'
    path = tmp_path / "caddy.log"
    path.write_text("".join(entry.format(ts=float(BASE_TS + number), request=request) for number in range(20)))
    logs = load(path)
    assert (logs.start, logs.requests) == (BASE_TS - 0.5, 20)
    assert Counter(group.busy_s for group in logs.groups(*ALL)) == {10.0: 1}


def test_nginx_timings_are_durations(tmp_path: Path) -> None:
    """The line of nginx's own guide: a number and quoted ones behind the agent."""
    request = '192.0.2.7 - - [20/Jun/2016:11:20:00 +0000] "GET / HTTP/1.1" 200 5 "-" "x"'
    line = f'{request} rt=0.300 uct="0.000" urt="0.300"\n'
    (tmp_path / "access.log").write_text(line * 5)
    loaded = load(tmp_path / "access.log")
    assert (loaded.requests, loaded.has_durations) == (5, True)
    assert loaded.groups(*ALL)[0].busy_s == pytest.approx(1.5)
