"""Laws of the formats: total, linear, one reading of a line, and nothing a client writes moves what the server says."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.formats import Anchor, Format, Proxies, by_name
from tocsin.formats.dates import AHEAD_S, Stamp, time_piece
from tocsin.formats.request import normal_path, resolved
from tocsin.model import AuthAttempt, HttpRequest, Other, Unparsed

LAW = settings(derandomize=True, max_examples=40)
MANY = settings(LAW, max_examples=100)
ANCHOR = Anchor(1700000000.0, UTC)
TRUSTED = Proxies([ip_network("10.0.0.0/8")])
CLIENT, FORGED, STATUS, TS = "192.0.2.77", "203.0.113.66", 404, 1466435854.0
TIME = "20/Jun/2016:11:17:34 -0400"

APACHE = (
    '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
    '%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"',
    '%h %l %u %t "%m %U%q %H" %>s %b',
    '%t %h %u "%r" %>s "%{X-Forwarded-For}i"',
    "%h %u %t %U %q %m",
    "%h %t %>s %{User-Agent}i",
    "%{User-Agent}i | %h %u | %t %>s %U",
    '%u "%r" %{User-Agent}i %h %t %>s',
    "%{User-Agent}i;%a;%{begin:sec}t;%>s;%u",
    '%V %h %l %u %t "%r" %>s %b %D "%{User-Agent}i" %{Cookie}i',
)
NGINX = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"',
    '$host $remote_addr - $remote_user [$time_local] "$request" $status $request_time "$http_user_agent"',
    "$http_user_agent\t$remote_addr\t$request_uri\t$status\t$time_local",
    '[$time_local] $remote_addr $status "$request" $http_user_agent $upstream_response_time',
    '{"t":"$time_local","a":"$remote_addr","s":$status,"u":"$remote_user","r":"$request","g":"$http_user_agent"}',
)
NAMES = (
    "combined", "common", "vhost_combined", "main", "combined and more", "caddy", "traefik", "json", "sshd", "journal",
)  # fmt: skip

FAKE = (
    f'{FORGED} - - [01/Jan/2000:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"',
    f" {FORGED} - x [{TIME}] ",
    f'" 200 5 "-" "-"\n{FORGED} - - [{TIME}] "GET / HTTP/1.1" 200 5 "-" "',
    f"|{FORGED}|{TIME}|200|",
    f"; {FORGED};1466435854;200;x",
    f"\t{FORGED}\t/\t200\t{TIME}",
    f'","a":"{FORGED}","s":200,"x":"',
    f"for={FORGED}",
    f"{FORGED}, 10.0.0.1",
    f"[client {FORGED}:80] ",
    f"x from {FORGED} port 22 ssh2",
    f"::ffff:{FORGED}",
    "\0", "\x1b[31m", "\\", '"', '\\"', "] ", " [", "-", "\xff", "é€", "",
)  # fmt: skip
hostile = st.lists(
    st.one_of(st.sampled_from(FAKE), st.text(alphabet=' "\\[]|;,:-\t\n\0\x1b0129afx/é\x7f', max_size=8)), max_size=5
).map("".join)


def apache_escaped(text: str) -> str:
    """What Apache's ap_escape_logitem makes of a client's bytes."""
    named = {10: "\\n", 13: "\\r", 9: "\\t", 8: "\\b", 11: "\\v", 34: '\\"', 92: "\\\\"}
    return "".join(named.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in text.encode())


def nginx_escaped(text: str) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02X}" for b in text.encode())


def json_escaped(text: str) -> str:
    named = {10: "\\n", 13: "\\r", 9: "\\t", 8: "\\b", 12: "\\f", 34: '\\"', 92: "\\\\"}
    return "".join(named.get(ord(c)) or (c if ord(c) >= 32 else f"\\u{ord(c):04X}") for c in text)


ESCAPED: dict[str, Callable[[str], str]] = {
    "apache": apache_escaped,
    "default": nginx_escaped,
    "json": json_escaped,
    "none": lambda text: text,
}


class Written:
    """A line as the server writes it, from what it knows itself and what the client sent."""

    def __init__(self, user: str, agent: str, target: str, header: str, escape: str) -> None:
        # a request line and a header cannot hold a newline; a user name (base64) can
        agent, target, header = (text.replace("\n", " ") for text in (agent, target, header))
        dash = "" if escape == "json" else "-"
        esc = ESCAPED[escape]
        self.client = {
            "user": esc(user) or dash, "agent": esc(agent) or dash, "request": esc(f"GET {target} HTTP/1.1"),
            "path": esc(target.partition("?")[0]), "query": esc("?" + target.partition("?")[2]),
            "uri": esc(target),
            "header": esc(header) or dash,
        }  # fmt: skip

    def apache(self, log_format: str) -> bytes:
        c = self.client
        values = {
            "%{User-Agent}i": c["agent"], "%{Referer}i": c["header"], "%{X-Forwarded-For}i": c["header"],
            "%{Cookie}i": c["header"], "%{begin:sec}t": str(int(TS)), "%>s": str(STATUS), "%h": CLIENT, "%a": CLIENT,
            "%l": "-", "%u": c["user"], "%t": f"[{TIME}]", "%r": c["request"], "%b": "12", "%O": "312", "%D": "1500",
            "%m": "GET", "%U": c["path"], "%q": c["query"], "%H": "HTTP/1.1", "%v": "www.example.org",
            "%V": c["header"], "%p": "80",
        }  # fmt: skip
        return re.sub(r"%(?:\{[^}]*\}|>)?[A-Za-z]", lambda found: values[found[0]], log_format).encode()

    def nginx(self, log_format: str) -> bytes:
        c = self.client
        values = {
            "remote_addr": CLIENT, "remote_user": c["user"], "time_local": TIME, "request": c["request"],
            "status": str(STATUS), "body_bytes_sent": "12", "http_referer": c["header"], "http_user_agent": c["agent"],
            "host": c["header"], "request_time": "0.012", "request_uri": c["uri"],
            "upstream_response_time": "0.1, 0.2",
        }  # fmt: skip
        return re.sub(r"\$([a-z_]+)", lambda found: values[found[1]], log_format).encode("utf-8")


def assert_told_by_server(event: object, log_format: str) -> None:
    if isinstance(event, Unparsed):
        return
    assert isinstance(event, HttpRequest)
    assert event.source_ip == CLIENT
    assert event.ts == TS
    if ">s" in log_format or "$status" in log_format:
        assert event.status == STATUS
    assert event.via is None


@pytest.mark.parametrize("log_format", APACHE)
@MANY
@given(hostile, hostile, hostile, hostile)
def test_a_client_moves_nothing_in_an_apache_line(
    log_format: str, user: str, agent: str, target: str, header: str
) -> None:
    line = Written(user, agent, target, header, "apache").apache(log_format)
    assert_told_by_server(by_name_once(f"apache {log_format}").parse(line, ANCHOR), log_format)


@pytest.mark.parametrize("log_format", [f"apache {text}" for text in APACHE] + [f"nginx {text}" for text in NGINX])
def test_an_honest_clients_lines_fit(log_format: str) -> None:
    """The laws below are about lines that fit: here is that there are such."""
    server, _, text = log_format.partition(" ")
    written = Written("frank", "Mozilla/5.0", "/a?b=c", "198.51.100.1", "apache" if server == "apache" else "default")
    line = written.apache(text) if server == "apache" else written.nginx(text)
    event = by_name_once(log_format).parse(line, ANCHOR)
    assert isinstance(event, HttpRequest)
    assert_told_by_server(event, log_format)


@pytest.mark.parametrize("escape", ["default", "json", "none"])
@pytest.mark.parametrize("log_format", NGINX)
@LAW
@given(hostile, hostile, hostile, hostile)
def test_a_client_moves_nothing_in_an_nginx_line(
    log_format: str, escape: str, user: str, agent: str, target: str, header: str
) -> None:
    if escape == "none":
        log_format = log_format.replace("$remote_user", "u")  # refused with escape=none: it may hold newlines
    line = Written(user, agent, target, header, escape).nginx(log_format)
    if b"\n" in line:
        pytest.fail(f"the writer wrote two lines: {line!r}")
    event = by_name_once(f"nginx escape={escape} {log_format}").parse(line, ANCHOR)
    assert_told_by_server(event, log_format)


@MANY
@given(hostile, hostile, hostile, hostile)
def test_quoted_fields_are_read_back_as_the_client_sent_them(user: str, agent: str, target: str, header: str) -> None:
    line = Written(user, agent, target, header, "apache").apache(APACHE[0])
    event = by_name_once("combined").parse(line, ANCHOR)
    assert isinstance(event, HttpRequest)
    assert (event.user or "", event.user_agent or "") == (
        "" if user == "-" else user,
        "" if agent == "-" else agent.replace("\n", " "),
    )


_FORMATS: dict[tuple[str, bool], Format] = {}


def by_name_once(spec: str, *, trusting: bool = False) -> Format:
    """One format object for all examples, so that its caches are tested too."""
    if (spec, trusting) not in _FORMATS:
        _FORMATS[spec, trusting] = by_name(spec, TRUSTED if trusting else Proxies())
    return _FORMATS[spec, trusting]


SEEDS = tuple(
    line.encode()
    for line in r"""
63.251.225.206 - - [20/Jun/2016:11:17:34 -0400] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" "Mozilla/5.0 (compatible)"
10.10.10.1 - - [07/Mar/2004:16:05:49 -0800] "GET /twiki HTTP/1.1" 401 12846
vhost.io:80 8.8.4.4 - - [02/Mar/2016:08:14:04 -0600] "GET /shop HTTP/1.1" 200 615 "-" "Googlebot-Image/1.0"
2001:db8::1 - j d [02/Mar/2016:08:14:04 -0600] "\x16\x03" 400 - "-" "a \"b\" \\" "10.1.1.1, 203.0.113.9"
{"ts":1646861401.52,"logger":"http.log.access","request":{"remote_ip":"10.0.0.1","method":"GET","uri":"/"},"status":200}
{"ClientAddr":"192.0.2.1:5","RequestMethod":"GET","RequestPath":"/","Duration":132000,"time":"2021-05-16T08:30:00Z"}
{"time_local":"20/Jun/2016:11:17:34 -0400","remote_addr":"1.2.3.4","request":"GET / HTTP/1.1","status":"200"}
{"__REALTIME_TIMESTAMP":"1700000000123456","_COMM":"sshd","MESSAGE":"Failed password for x from 1.1.1.1 port 5 ssh2"}
Dec 10 06:55:48 LabSZ sshd[24200]: Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2
2026-02-08T00:40:07.136582+00:00 h sshd[1]: Connection closed by authenticating user a 1.1.1.1 port 5 [preauth]
""".strip().split("\n")
)
# where a reader of whole blocks could go astray: quotes escaped or missing, so that one line runs on into the next
TRAPS = tuple(
    line.encode()
    for line in r"""
1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "GET /\" 200 5 "-" "x"
1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "GET /\\" 200 5 "-" "x"
1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "GET / HTTP/1.1" 200 5 "-" "x
1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "GET / HTTP/1.1
x"
x" 200 5 "-" "x"
1.2.3.4 - - [20/Jun/2016
:11:17:34 -0400] "GET / HTTP/1.1" 200 5 "-" "x"
1.2.3.4 - - [99/Jun/2016:11:17:34 -0400] "GET / HTTP/1.1" 200 5 "-" "x"
cafe - - [20/Jun/2016:11:17:34 -0400] "GET / HTTP/1.1" 200 5 "-" "x"
""".strip().split("\n")
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real line, cut, doubled, or with hostile pieces put in; never with a newline."""
    line = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(line)))
        end = draw(st.integers(start, min(len(line), start + 12)))
        piece = draw(
            st.one_of(st.sampled_from(FAKE).map(str.encode), st.binary(max_size=6), st.just(line[end : end + 40]))
        )
        line = line[:start] + piece + line[end:]
    return line.replace(b"\n", b"")


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize("name", NAMES)
@LAW
@given(st.one_of(mutated(), st.binary(max_size=200)))
def test_parse_is_total_and_its_texts_are_text(name: str, trusting: bool, line: bytes) -> None:
    event = by_name_once(name, trusting=trusting).parse(line, ANCHOR)
    assert isinstance(event, HttpRequest | AuthAttempt | Unparsed | Other)
    repr(event).encode()  # a lone surrogate would raise
    if isinstance(event, HttpRequest):
        "".join(filter(None, (event.target, event.path, event.query, event.user_agent, event.user))).encode()
        assert event == by_name(name, TRUSTED if trusting else Proxies()).parse(line, ANCHOR), "caches change nothing"


SKIMMED = (
    "combined",
    "common",
    "vhost_combined",
    "main",
    "combined and more",
    f"apache {APACHE[2]}",
    f"nginx {NGINX[1]}",
)


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize("name", SKIMMED)
@MANY
@given(st.lists(st.one_of(mutated(), st.sampled_from(SEEDS), st.sampled_from(TRAPS)), max_size=6))
def test_skim_and_parse_agree(name: str, trusting: bool, lines: list[bytes]) -> None:
    form = by_name_once(name, trusting=trusting)
    if form.skim is None:
        assert (name, trusting) == ("main", True), "only a header to be believed keeps these from being skimmed"
        return
    data = b"xx\n" + b"".join(line + b"\n" for line in lines)
    rows = form.skim(data, 3, len(data))
    assert len(rows) == len(lines)
    for (client, stamp), line in zip(rows, lines, strict=True):
        assert bool(client) == bool(stamp)
        if not client:
            continue
        event = form.parse(line, ANCHOR)
        ts = form.time_ts(stamp.encode("latin-1"), ANCHOR)
        assert isinstance(event, HttpRequest) == (ts is not None)
        if isinstance(event, HttpRequest):
            assert (event.ts, event.source_ip) == (ts, form.client(client.encode()))
    middle = len(data) - len(lines[-1]) - 1 if lines else 3
    assert form.skim(data, 3, middle) + form.skim(data, middle, len(data)) == rows, "chunking does not matter"


def test_skim_reads_ordinary_lines_itself() -> None:
    form = by_name_once("combined")
    assert form.skim is not None
    data = SEEDS[0] + b"\n" + SEEDS[0][:-1] + b'\\x22"\n'
    assert form.skim(data, 0, len(data)) == [("63.251.225.206", "20/Jun/2016:11:17:34 -0400")] * 2


@pytest.mark.parametrize("log_format", [APACHE[0], APACHE[1]])
@MANY
@given(hostile, st.sampled_from(["GET", "POST", None]), hostile, st.data())
def test_request_pattern_misses_no_request(
    log_format: str, agent: str, method: str | None, target: str, data: st.DataObject
) -> None:
    form = by_name_once(f"apache {log_format}")
    line = Written("u", agent, target, "", "apache").apache(log_format)
    event = form.parse(line, ANCHOR)
    assert isinstance(event, HttpRequest)
    start = data.draw(st.integers(0, len(event.target)))
    literal = event.target[start : data.draw(st.integers(start, len(event.target)))]
    pattern = form.request_pattern(method, literal)
    if pattern is None:
        assert "\\" in literal, "the one thing that is not promised"
    elif method in {event.method, None}:
        assert re.search(pattern, line)


@pytest.mark.parametrize("name", ["caddy", "traefik", "json"])
@LAW
@given(mutated(), st.data())
def test_json_pattern_misses_no_request(name: str, line: bytes, data: st.DataObject) -> None:
    form = by_name_once(name)
    event = form.parse(line, ANCHOR)
    if isinstance(event, HttpRequest) and event.target.isprintable():
        start = data.draw(st.integers(0, len(event.target)))
        pattern = form.request_pattern(None, event.target[start:])
        assert pattern is not None
        assert re.search(pattern, line) or "\\" in event.target


@MANY
@given(hostile, st.sampled_from([CLIENT, "2001:db8::7"]))
def test_an_untrusted_peers_header_decides_nothing(header: str, peer: str) -> None:
    form = by_name_once("main", trusting=True)
    line = f'{peer} - - [{TIME}] "GET / HTTP/1.1" 200 5 "-" "-" "{nginx_escaped(header)}"'.encode()
    event = form.parse(line, ANCHOR)
    assert isinstance(event, HttpRequest)
    assert (event.source_ip, event.via) == (peer, None)


@MANY
@given(hostile, st.lists(st.sampled_from(["10.0.0.5", "10.9.9.9:4711"]), max_size=2))
def test_what_the_trusted_proxies_appended_is_the_client(header: str, hops: list[str]) -> None:
    form = by_name_once("main", trusting=True)
    value = nginx_escaped(", ".join([header.replace("\n", ""), CLIENT, *hops]))
    line = f'10.0.0.1 - - [{TIME}] "GET / HTTP/1.1" 200 5 "-" "-" "{value}"'.encode()
    event = form.parse(line, ANCHOR)
    assert isinstance(event, HttpRequest)
    assert (event.source_ip, event.via) == (CLIENT, "10.0.0.1")


@MANY
@given(hostile, st.sampled_from([f"for={CLIENT}", f'For="{CLIENT}:4711";proto=https', f'by=10.0.0.1;for="{CLIENT}"']))
def test_a_forwarded_header_is_the_proxys_word_or_none(header: str, appended: str) -> None:
    form = by_name_once('nginx $remote_addr [$time_local] "$request" $status "$http_forwarded"', trusting=True)
    value = nginx_escaped(f"{header}, {appended}".replace("\n", ""))
    line = f'10.0.0.1 [{TIME}] "GET / HTTP/1.1" 200 "{value}"'.encode()
    event = form.parse(line, ANCHOR)
    assert isinstance(event, HttpRequest)
    assert event.source_ip in {CLIENT, None}
    assert event.via == "10.0.0.1"


ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))])
anchors = st.builds(Anchor, st.floats(9.5e8, 4e9), ZONES)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2000, 12, 31)).map(lambda when: when.strftime("%b %e %H:%M:%S"))  # noqa: DTZ001  any day of a leap year


@MANY
@given(st.lists(st.tuples(moments, anchors), min_size=1, max_size=6))
def test_a_missing_year_is_the_latest_that_the_anchor_allows_whatever_was_asked_before(
    asked: list[tuple[str, Anchor]],
) -> None:
    used = Stamp([time_piece("%b %e %H:%M:%S")])
    for text, anchor in asked:
        ts = used.ts(text, anchor)
        assert ts == Stamp([time_piece("%b %e %H:%M:%S")]).ts(text, anchor)
        assert ts is not None
        assert ts <= anchor.now_ts + AHEAD_S
        when = datetime.fromtimestamp(ts, anchor.zone)
        assert when.strftime("%b %e %H:%M:%S") == text
        if text[:6] != "Feb 29":
            assert when.replace(year=when.year + 1).timestamp() > anchor.now_ts + AHEAD_S


@MANY
@given(st.text(alphabet="/.a%2eEfF5cé\\?#", max_size=30))
def test_a_normal_path_has_no_dots_and_no_double_slashes(rest: str) -> None:
    path = normal_path("/" + rest)
    assert path[0] == "/"
    assert "//" not in path
    assert not {".", ".."} & set(path.split("/"))
    assert resolved(path) == path
