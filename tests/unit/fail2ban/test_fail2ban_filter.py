"""A filter at work: tags, order of work, ids, connections, several lines, what is refused, what is remarked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tocsin.fail2ban.dates.dates import DateFinder
from tocsin.fail2ban.filters import tags
from tocsin.fail2ban.filters.filter import LineFilter
from tocsin.fail2ban.filters.regexes import Budget, FilterError
from tocsin.fail2ban.filters.remarks import remarks_of
from tocsin.fail2ban.model import Failure, FilterSpec

NOW_TS = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC).timestamp()
FOUNDING = Path(__file__).parents[2] / "conformance" / "founding" / "access.log"


def made(*failregex: str, **options: object) -> LineFilter:
    spec = FilterSpec("test", failregex, **options)  # type: ignore[arg-type]  # the options of a spec, by name
    return LineFilter(spec, DateFinder(spec.datepattern, UTC), Budget())


def keys(line_filter: LineFilter, *lines: str) -> list[str]:
    return [failure.key for line in lines for failure in line_filter.take(line, NOW_TS)]


# -- tags ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "source_ip"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("[192.0.2.7]", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0:0::1", "2001:db8::1", "2001:db8::1"),
        ("[2001:db8::]", "2001:db8::", "2001:db8::"),
        ("host.example.org", "host.example.org", None),
        ("999.0.2.7", "999.0.2.7", None),
    ],
)
def test_host_is_an_address_or_a_name_that_stays_one(text: str, key: str, source_ip: str | None) -> None:
    (failure,) = made("^bad <HOST>$").take(f"bad {text}", NOW_TS)
    assert (failure.key, failure.source_ip) == (key, source_ip)


def test_names_count_nowhere_if_unwanted() -> None:
    assert keys(made("^bad <HOST>$", usedns="no"), "bad host.example", "bad 192.0.2.7") == ["192.0.2.7"]
    assert keys(made("^bad <DNS>$", usedns="no"), "bad host.example") == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("2001:db8::5/64", "2001:db8::/64"),
        ("192.0.2.7/99", "192.0.2.7"),
    ],
)
def test_subnets(text: str, key: str) -> None:
    (failure,) = made("^bad <SUBNET>$").take(f"bad {text}", NOW_TS)
    assert (failure.key, failure.source_ip) == (key, key)


def test_an_own_id_is_the_key_and_the_address_stays_the_address() -> None:
    (failure,) = made("^bad <F-ID>\\w+</F-ID> <HOST>:<F-PORT/>$").take("bad bob 192.0.2.7:22", NOW_TS)
    assert (failure.key, failure.source_ip) == ("bob", "192.0.2.7")
    assert failure.fields == {"id": "bob", "ip4": "192.0.2.7", "port": "22"}
    assert keys(made("^bad <F-ID/>$"), "bad 2001:DB8::1") == ["2001:db8::1"]


def test_alternates_fill_what_is_empty_and_tuples_gather() -> None:
    line_filter = made("^a <F-USER>\\w*</F-USER>,<F-ALT_USER>\\w*</F-ALT_USER> <HOST>$")
    users = [
        failure.fields["user"]
        for line in ("a x,y 192.0.2.7", "a ,y 192.0.2.7")
        for failure in line_filter.take(line, 0)
    ]
    assert users == ["x", "y"]
    line_filter = made("^<F-ID>\\w+</F-ID> <F-TUPLE_ID>\\w+</F-TUPLE_ID> <F-TUPLE_ID_1>\\w+</F-TUPLE_ID_1>$")
    assert keys(line_filter, "a b c") == ["('a', 'b', 'c')"]


def test_unknown_tags_and_stray_ends_stay_text() -> None:
    assert tags.expand("<nosuch> <f-user> </F-USER>") == "<nosuch> <f-user> </F-USER>"
    assert keys(made("^<W> <HOST>"), "<W> 192.0.2.7") == ["192.0.2.7"]


def test_flags_hold_for_their_group() -> None:
    line_filter = made("^((?i)login|plain) FAILED <HOST>$")
    assert keys(line_filter, "LOGIN FAILED 192.0.2.7", "Plain FAILED 192.0.2.8", "login failed 192.0.2.9") == [
        "192.0.2.7",
        "192.0.2.8",
    ]


# -- order of work ---------------------------------------------------------------------------------------------------


def test_the_date_is_cut_out_and_tells_the_time() -> None:
    (failure,) = made("^ bad <HOST>$").take("2024-05-06 11:22:33 bad 192.0.2.7", NOW_TS)
    assert failure == Failure(
        datetime(2024, 5, 6, 11, 22, 33, tzinfo=UTC).timestamp(),
        "192.0.2.7",
        "192.0.2.7",
        1,
        {"ip4": "192.0.2.7"},
        ("2024-05-06 11:22:33 bad 192.0.2.7",),
    )
    assert made("^bad <HOST>").take("bad 192.0.2.7", NOW_TS)[0].ts == NOW_TS


def test_the_journal_tells_the_time_itself() -> None:
    (failure,) = made("^2024-05-06 11:22:33 bad <HOST>$", logtype="journal").take(
        "2024-05-06 11:22:33 bad 192.0.2.7", 5.0
    )
    assert failure.ts == 5.0


def test_the_first_failregex_wins() -> None:
    line_filter = made("^a (?P<first>x) <HOST>", "^a (?P<second>\\w) <HOST>")
    assert [failure.fields for line in ("a x 192.0.2.7", "a y 192.0.2.7") for failure in line_filter.take(line, 0)] == [
        {"first": "x", "ip4": "192.0.2.7"},
        {"second": "y", "ip4": "192.0.2.7"},
    ]


def test_the_prefregex_decides_and_leaves_its_content() -> None:
    line_filter = made(
        "^bad <HOST>$", "^worse$", prefregex="^(?P<tag>\\w+)\\[<F-ID>\\d+</F-ID>\\]: <F-CONTENT>.+</F-CONTENT>$"
    )
    (failure,) = line_filter.take("app[12]: bad 192.0.2.7", NOW_TS)
    assert failure.fields == {"tag": "app", "id": "12", "ip4": "192.0.2.7"}
    assert (failure.key, failure.source_ip) == ("12", "192.0.2.7")
    assert keys(line_filter, "app[13]: worse", "bad 192.0.2.7", "app[14]: bad 192.0.2.7 not") == ["13"]


def test_an_empty_content_leaves_the_whole_text() -> None:
    line_filter = made("^x:bad <HOST>$", prefregex="^x:<F-CONTENT>(?:zzz)?</F-CONTENT>")
    assert keys(line_filter, "x:bad 192.0.2.7") == ["192.0.2.7"]
    assert line_filter.patterns is not None


def test_a_group_of_the_prefregex_keeps_its_value() -> None:
    line_filter = made(
        "^bad(?: as <F-USER>\\w+</F-USER>)? <HOST>$", prefregex="^<F-USER>\\w+</F-USER>: <F-CONTENT>.+</F-CONTENT>$"
    )
    lines = "anna: bad 192.0.2.7", "anna: bad as root 192.0.2.7"
    assert [line_filter.take(line, 0)[0].fields["user"] for line in lines] == ["anna", "root"]


@pytest.mark.parametrize("others", [0, 3])
def test_an_ignoreregex_lets_go(others: int) -> None:
    """It comes first where there are few of them, else after the failregex; what it sees differs, what it does not."""
    line_filter = made("^bad <HOST>", *("^other <HOST>",) * others, ignoreregex=("trusted$",))
    assert keys(line_filter, "bad 192.0.2.7 trusted", "bad 192.0.2.8") == ["192.0.2.8"]
    assert line_filter.explain("bad 192.0.2.7 trusted", 0).ignoreregex == 0


def test_the_text_ends_in_a_newline() -> None:
    assert keys(made("^bad <HOST>\\s$"), "bad 192.0.2.7", "bad 192.0.2.8 ") == ["192.0.2.7", "192.0.2.8"]


def test_what_a_line_was_is_explained() -> None:
    line_filter = made("^ bad <HOST>$", "^ worse <HOST>$", ignoreregex=("9$",))
    trace = line_filter.explain("2024-05-06 11:22:33 worse 192.0.2.7", NOW_TS)
    assert (trace.text, trace.date, trace.failregex, trace.fields) == (
        " worse 192.0.2.7",
        (0, 19),
        1,
        {"ip4": "192.0.2.7"},
    )
    assert [failure.key for failure in trace.failures] == ["192.0.2.7"]
    assert line_filter.explain("nothing", NOW_TS).note == "no failregex matches"
    assert line_filter.explain(" bad 192.0.2.9", NOW_TS).note == "an ignoreregex matches"


# -- connections -----------------------------------------------------------------------------------------------------

DAEMON = (
    "^bad password for <F-USER>\\S+</F-USER>(?: from <HOST>)?$",
    "^<F-NOFAIL>hello</F-NOFAIL> from <HOST>$",
    "^<F-NOFAIL>key refused</F-NOFAIL> for <F-USER>\\S+</F-USER>$",
    "^<F-MLFFORGET><F-NOFAIL>bye</F-NOFAIL></F-MLFFORGET>(?: <F-USER>\\S+</F-USER>)?(?: from <HOST>)?$",
    "^<F-MLFFORGET>giving up</F-MLFFORGET> on <HOST>$",
    "^<F-MLFFORGET><F-MLFGAINED>welcome</F-MLFGAINED></F-MLFFORGET> <F-USER>\\S+</F-USER> from <HOST>$",
)
PREFIX = "^<F-MLFID> myhost daemon\\[\\d+\\]: </F-MLFID><F-CONTENT>.+</F-CONTENT>$"


def daemon() -> LineFilter:
    return made(*DAEMON, prefregex=PREFIX, datepattern="{^LN-BEG}EPOCH")


def say(line_filter: LineFilter, *sayings: tuple[int, int, str]) -> list[tuple[str, int, tuple[str, ...]]]:
    """(second, process, what it says) -> (key, lines it rests on, users) of each failure."""
    return [
        (failure.key, len(failure.matches), failure.users)
        for second, process, text in sayings
        for failure in line_filter.take(f"{1_700_000_000 + second} myhost daemon[{process}]: {text}", NOW_TS)
    ]


def test_a_failure_without_an_address_waits_for_one() -> None:
    assert say(daemon(), (0, 7, "bad password for a"), (1, 7, "hello from 192.0.2.7")) == [("192.0.2.7", 2, ("a",))]
    assert say(daemon(), (0, 7, "hello from 192.0.2.7"), (1, 7, "bad password for a")) == [("192.0.2.7", 2, ("a",))]


def test_connections_are_told_apart_and_what_was_told_is_not_told_again() -> None:
    assert say(
        daemon(),
        (0, 7, "hello from 192.0.2.7"),
        (1, 8, "hello from 192.0.2.8"),
        (2, 8, "bad password for a"),
        (3, 7, "bad password for a"),
        (4, 7, "bad password for a"),
    ) == [("192.0.2.8", 2, ("a",)), ("192.0.2.7", 2, ("a",)), ("192.0.2.7", 1, ("a",))]


def test_what_is_no_failure_is_told_with_the_failure() -> None:
    assert say(
        daemon(), (0, 7, "key refused for a"), (1, 7, "key refused for a"), (2, 7, "giving up on 192.0.2.7")
    ) == [("192.0.2.7", 3, ("a",))]


def test_a_success_forgets_unless_several_users_were_tried() -> None:
    assert say(daemon(), (0, 7, "bad password for a"), (1, 7, "welcome a from 192.0.2.7")) == []
    assert say(daemon(), (0, 7, "bad password for b"), (1, 7, "welcome a from 192.0.2.7")) == [
        ("192.0.2.7", 1, ("b", "a"))
    ]


def test_a_connection_ends_when_it_says_so_and_after_five_minutes() -> None:
    hello, bad = "hello from 192.0.2.7", "bad password for a"
    assert say(daemon(), (0, 7, hello), (1, 7, "bye"), (2, 7, bad)) == []
    assert say(daemon(), (0, 7, hello), (299, 7, bad)) == [("192.0.2.7", 2, ("a",))]
    assert say(daemon(), (0, 7, hello), (301, 7, bad)) == []


def test_nofail_without_a_connection_is_no_failure() -> None:
    assert keys(made("^<F-NOFAIL>hello</F-NOFAIL> <HOST>"), "hello 192.0.2.7") == []


def test_connections_survive_a_restart() -> None:
    before, after = daemon(), daemon()
    say(before, (0, 7, "key refused for a"), (1, 7, "hello from 192.0.2.7"))
    after.load(before.dump())
    assert say(after, (2, 7, "bad password for a")) == [("192.0.2.7", 3, ("a",))]


def test_memory_of_connections_is_bounded() -> None:
    line_filter = daemon()
    for process in range(5000):
        say(line_filter, (0, process, "hello from 192.0.2.7"))
    assert len(line_filter.dump()) < 500_000
    assert say(line_filter, (1, 0, "bad password for a"), (1, 4999, "bad password for a")) == [("192.0.2.7", 2, ("a",))]
    for _ in range(500):
        say(line_filter, (2, 4999, "key refused for a"))
    assert say(line_filter, (3, 4999, "bad password for a")) == [("192.0.2.7", 100, ("a",))]


# -- blocks ----------------------------------------------------------------------------------------------------------


def test_lines_that_only_end_a_connection_are_known() -> None:
    line_filter = daemon()
    assert line_filter.patterns is not None
    assert line_filter.loud_patterns is not None
    assert len(line_filter.quiet) == 2
    assert set(line_filter.patterns) == set(line_filter.loud_patterns) | line_filter.quiet


def test_a_block_finds_the_end_of_a_connection_that_it_was_not_told_of() -> None:
    lines = [
        "myhost daemon[7]: bad password for b",
        "myhost daemon[9]: welcome c from 192.0.2.9",
        "myhost daemon[7]: welcome a from 192.0.2.7",
        "myhost daemon[8]: bad password for a from 192.0.2.8",
    ]
    data = "".join(f"1700000000 {line}\n" for line in lines).encode()
    starts = [0, data.rfind(b"\n", 0, -1) + 1]
    line_filter = daemon()
    assert not line_filter.watching
    found = line_filter.take_block(data, starts, NOW_TS)
    assert [(data[start:].split(b"\n")[0].decode()[11:], [f.key for f in failures]) for start, failures in found] == [
        (lines[2], ["192.0.2.7"]),
        (lines[3], ["192.0.2.8"]),
    ]
    assert line_filter.watching


@pytest.mark.parametrize("many", [2, 30])
def test_a_block_finds_the_ends_of_many_connections(many: int) -> None:
    """Of those known before, and of those that it tells of itself."""

    def block(*texts: str) -> tuple[bytes, list[int]]:
        lines = [f"1700000000 myhost daemon[{process}]: {text}\n" for text in texts for process in range(many)]
        starts = [sum(map(len, lines[:n])) for n in range(len(lines))]
        return "".join(lines).encode(), [at for at, line in zip(starts, lines, strict=True) if "welcome" not in line]

    line_filter = daemon()
    assert line_filter.take_block(*block("bad password for a"), NOW_TS) == []
    found = line_filter.take_block(*block("welcome b from 192.0.2.7"), NOW_TS)
    assert [failure.users for _, failures in found for failure in failures] == [("a", "b")] * many
    found = line_filter.take_block(*block("bad password for a", "welcome b from 192.0.2.7"), NOW_TS)
    assert [failure.users for _, failures in found for failure in failures] == [("a", "b")] * many
    assert not line_filter.watching


# -- several lines ---------------------------------------------------------------------------------------------------


def test_several_lines_together() -> None:
    line_filter = made("^ ?start (?P<_no>\\d+) <HOST><SKIPLINES>^fail (?P=_no)$", maxlines=4)
    assert line_filter.patterns is None
    lines = ["2024-05-06 11:00:00 start 1 192.0.2.1", "start 2 192.0.2.2", "fail 2", "fail 1", "fail 2"]
    found = [line_filter.take(line, NOW_TS) for line in lines]
    assert [[failure.key for failure in failures] for failures in found] == [[], [], ["192.0.2.2"], ["192.0.2.1"], []]
    assert found[3][0].matches == (lines[0], lines[3])
    # a line without a date has that of the line before
    assert found[3][0].ts == datetime(2024, 5, 6, 11, tzinfo=UTC).timestamp()


def test_only_the_last_lines_count_and_they_survive_a_restart() -> None:
    regex = "^start <HOST><SKIPLINES>^fail$"
    assert keys(made(regex, maxlines=3), "start 192.0.2.1", "x", "fail") == ["192.0.2.1"]
    assert keys(made(regex, maxlines=3), "start 192.0.2.1", "x", "y", "fail") == []
    before, after = made(regex, maxlines=3), made(regex, maxlines=3)
    before.take("start 192.0.2.1", NOW_TS)
    after.load(before.dump())
    assert keys(after, "fail") == ["192.0.2.1"]


def test_an_ignored_match_uses_its_lines_up() -> None:
    line_filter = made("^start <HOST>\\nfail$", maxlines=2, ignoreregex=("192\\.0\\.2\\.1",))
    assert keys(line_filter, "start 192.0.2.1", "fail", "start 192.0.2.2", "fail") == ["192.0.2.2"]


# -- refusals and remarks --------------------------------------------------------------------------------------------


def refused(*failregex: str, **options: object) -> str:
    with pytest.raises(FilterError) as caught:
        made(*failregex, **options)
    return str(caught.value)


def test_the_founding_filter_that_lost_its_host_is_refused_with_what_to_write() -> None:
    """As the article printed it: HTML took `<HOST>`, Markdown the stars."""
    said = refused("^ -.POST /xmlrpc.php HTTP.", ignoreregex=("*",))
    cure = "^<HOST> -.*POST /xmlrpc.php HTTP.*"
    assert "<HOST> is missing" in said
    assert f"write: {cure}" in said
    assert "ignoreregex '*' is not a valid regex" in said
    assert "any text is .*" in said
    assert keys(made(cure), *FOUNDING.read_text().splitlines())[:3] == ["63.251.225.206"] * 3


def test_the_second_founding_filter_works_as_it_stands() -> None:
    line_filter = made('^<HOST>.*\\"POST /xmlrpc.php HTTP/1.0', ignoreregex=())
    found = keys(line_filter, *FOUNDING.read_text().splitlines())
    assert {key: found.count(key) for key in dict.fromkeys(found)}["63.251.225.206"] >= 3
    assert {"63.251.225.206", "63.251.225.207"} <= set(found)


@pytest.mark.parametrize(
    ("regex", "cure"),
    [
        ("^ - - GET /x", "write: ^<HOST> - - GET /x"),
        ("authentication failed from $", "write: authentication failed from <HOST>$"),
        ("failed rhost= user=", "write <HOST> where the line has the client's address"),
        ("client=[] failed", "write: client=[<HOST>] failed"),
        ("failed", "write <HOST> where the line has the client's address"),
    ],
)
def test_a_lost_host_is_looked_for(regex: str, cure: str) -> None:
    if "[]" in regex:
        regex, cure = regex.replace("[]", "\\[\\]"), cure.replace("[<HOST>]", "\\[<HOST>\\]")
    assert cure in refused(regex)


@pytest.mark.parametrize(
    ("regex", "advice"),
    [
        ("^a( <HOST>", "is not a valid regex"),
        ("^a (?i)b <HOST>", "write the flags at its beginning"),
        ("<HOST> or <HOST>", "a tag stands once in a regex"),
        ("   ", "failregex is empty"),
        ("^(?P<host>\\S+)$", "<HOST> is missing"),
        ("^a{99999999999} <HOST>", "is not a valid regex"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(regex: str, advice: str) -> None:
    said = refused(regex)
    assert advice in said
    assert "filter test" in said


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(refused("(", ")", prefregex="[", ignoreregex=("*",)).splitlines()) == 4
    assert "it has no failregex" in refused()


@pytest.mark.parametrize(
    ("regex", "doubts"),
    [
        ("^failed \\S+ from <HOST>$", []),
        ("^failed .*? from <HOST>", []),
        ("^failed .* from <HOST>$", []),
        ("^failed .* from <HOST> port \\d+$", []),
        ("^failed .* from <HOST>", ["greedy"]),
        ("^failed .+ from <HOST> .*$", ["greedy"]),
        ("client <HOST> user \\S+ not found$", ["CVE-2013-2178"]),
        ("failed .* from <HOST>", ["CVE-2013-2178", "greedy"]),
        ("^(?:failed|broken) <F-USER>.*</F-USER> <HOST>", ["greedy"]),
        ("(", []),
    ],
)
def test_what_lets_a_stranger_choose_the_address_is_remarked(regex: str, doubts: list[str]) -> None:
    remarks = remarks_of(FilterSpec("test", (regex,), file="filter.d/test.conf"), "jail")
    assert [
        next(doubt for doubt in ("greedy", "CVE-2013-2178") if doubt in remark.text) for remark in remarks
    ] == doubts
    assert all((one.severity, one.jail, one.file) == ("warning", "jail", "filter.d/test.conf") for one in remarks)


def test_an_open_prefregex_is_remarked() -> None:
    spec = FilterSpec("test", ("^bad$",), prefregex="client <HOST> <F-CONTENT>.+</F-CONTENT>$")
    (remark,) = remarks_of(spec)
    assert "begin the prefregex with ^" in remark.text
