"""Access logs: what format strings are read, which are refused and why, and forgeries one by one."""

from __future__ import annotations

from datetime import UTC
from ipaddress import ip_network

import hyperscan
import pytest

from tocsin.formats import AccessFormat, Anchor, Proxies, apache, combined, common, nginx, vhost_combined
from tocsin.model import HttpRequest, Unparsed

ANCHOR = Anchor(1700000000.0, UTC)
TIME = "20/Jun/2016:11:17:34 -0400"
TS = 1466435854.0


def read(form: AccessFormat, line: str | bytes) -> HttpRequest:
    event = form.parse(line.encode() if isinstance(line, str) else line, ANCHOR)
    assert isinstance(event, HttpRequest), event
    return event


def refused(form: AccessFormat, line: str | bytes) -> str:
    event = form.parse(line.encode() if isinstance(line, str) else line, ANCHOR)
    assert isinstance(event, Unparsed), event
    return event.reason


@pytest.mark.parametrize(
    ("log_format", "line", "told"),
    [
        ("%h %t %T", f"192.0.2.1 [{TIME}] 3", {"duration_s": 3.0}),
        ("%h %t %D", f"192.0.2.1 [{TIME}] 1500", {"duration_s": 0.0015}),
        ("%h %t %{ms}T", f"192.0.2.1 [{TIME}] 1500", {"duration_s": 1.5}),
        ("%h %t %{us}T %T", f"192.0.2.1 [{TIME}] 1500 0", {"duration_s": 0.0015}),
        ("%h %t %T/%D", f"192.0.2.1 [{TIME}] 2/2000001", {"duration_s": 2.000001}),
        ("%h %t %D", f"192.0.2.1 [{TIME}] -3", {"duration_s": None}),
        ("%h %t %D", f"192.0.2.1 [{TIME}] -", {"duration_s": None}),
        ("%h %t %I %O", f"192.0.2.1 [{TIME}] 7 312", {"body_bytes": 312}),
        ("%h %t %O %B", f"192.0.2.1 [{TIME}] 312 12", {"body_bytes": 12}),
        ("%h %t %s %>s", f"192.0.2.1 [{TIME}] 302 200", {"status": 200}),
        ("%h %t %<s", f"192.0.2.1 [{TIME}] 302", {"status": 302}),
        ("%h %t %!200,304{Referer}i", f"192.0.2.1 [{TIME}] -", {"referer": None}),
        ('%h %t "%200{User-Agent}i"', f'192.0.2.1 [{TIME}] "x"', {"user_agent": "x"}),
        ('%h %a %t "%r"', f'name.example 192.0.2.1 [{TIME}] "GET / HTTP/1.1"', {"source_ip": "192.0.2.1"}),
        ("%a %{c}a %t", f"192.0.2.1 192.0.2.9 [{TIME}]", {"source_ip": "192.0.2.1", "via": "192.0.2.9"}),
        ("%a %{c}a %t", f"192.0.2.1 192.0.2.1 [{TIME}]", {"source_ip": "192.0.2.1", "via": None}),
        ("%V:%p %h %t", f"www.example.org:443 192.0.2.1 [{TIME}]", {"vhost": "www.example.org"}),
        (r"%h\t%t\t%U%q", f"192.0.2.1\t[{TIME}]\t/a b?c", {"target": "/a b?c", "path": "/a b", "query": "c"}),
        ("%h %t %m %U %q", f"192.0.2.1 [{TIME}] GET /a ?b", {"method": "GET", "target": "/a?b", "query": "b"}),
        ("%h [%{sec}t] %%", "192.0.2.1 [1466435854] %", {"ts": TS}),
        ("%h %{msec}t", "192.0.2.1 1466435854250", {"ts": TS + 0.25}),
        ("%h %{%Y-%m-%dT%H:%M:%S}t.%{msec_frac}t%{%z}t", "192.0.2.1 2016-06-20T11:17:34.250-0400", {"ts": TS + 0.25}),
        ("%h %{end:%s}t %{begin:%s}t", "192.0.2.1 1466435860 1466435854", {"ts": TS}),
        ("%h %{%d/%m/%y %I:%M:%S %p %Z}t", "192.0.2.1 20/06/16 03:17:34 PM UTC", {"ts": TS}),
        ("%h %t %{Foo}n %{Bar}e %^ti", f"192.0.2.1 [{TIME}] a b c d", {"source_ip": "192.0.2.1"}),
    ],
)
def test_apache_directives(log_format: str, line: str, told: dict[str, object]) -> None:
    event = read(apache(log_format), line)
    assert {name: getattr(event, name) for name in told} == told


INGRESS = (
    '$remote_addr [$time_local] "$request" $status $request_length $request_time [$proxy_upstream_name]'
    " $upstream_addr $upstream_response_time $upstream_status $req_id"
)


@pytest.mark.parametrize(
    ("log_format", "escape", "line", "told"),
    [
        ("$remote_addr $msec", "default", "192.0.2.1 1466435854.250", {"ts": TS + 0.25}),
        ("$remote_addr $time_iso8601", "default", "192.0.2.1 2016-06-20T11:17:34-04:00", {"ts": TS}),
        ("${remote_addr} $time_local $request_time", "default", f"192.0.2.1 {TIME} 0.042", {"duration_s": 0.042}),
        ("$remote_addr $msec $request_time", "default", "192.0.2.1 1.000 -", {"duration_s": None}),
        ("$remote_addr $realip_remote_addr $msec", "default", "192.0.2.1 192.0.2.9 1.000", {"via": "192.0.2.9"}),
        ("$remote_addr $msec $uri$is_args$args", "default", "192.0.2.1 1.000 /a?b", {"path": "/a", "query": "b"}),
        ("$remote_addr $msec $uri?$args", "default", "192.0.2.1 1.000 /a?b", {"target": "/a?b", "path": "/a"}),
        ('$remote_addr $msec "$request_uri"', "default", r'192.0.2.1 1.000 "/%61\x22"', {"path": '/a"'}),
        ('$remote_addr $msec "$http_user_agent"', "none", r'192.0.2.1 1.000 "\x22"', {"user_agent": r"\x22"}),
        ('$remote_addr $msec "$http_user_agent"', "json", r'192.0.2.1 1.000 "\u0022\n"', {"user_agent": '"\n'}),
        ("$remote_addr $msec $unknown_thing", "default", "192.0.2.1 1.000 a b c", {"source_ip": "192.0.2.1"}),
        ('$remote_addr $msec "$host"', "default", '192.0.2.1 1.000 "[::1]:80"', {"vhost": "[::1]"}),
        (
            INGRESS,
            "default",
            f'192.0.2.1 [{TIME}] "GET / HTTP/2.0" 200 31 0.004 [a-b] 10.0.0.1:80, 10.0.0.2:80 0.1, 0.2 502, 200 9f',
            {"status": 200, "duration_s": 0.004},
        ),
    ],
)
def test_nginx_variables(log_format: str, escape: str, line: str, told: dict[str, object]) -> None:
    event = read(nginx(log_format, escape=escape), line)
    assert {name: getattr(event, name) for name in told} == told


@pytest.mark.parametrize(
    ("log_format", "why"),
    [
        ('%h "%r" %>s', "no time"),
        ("%h %{%H:%M:%S}t", "tell neither month"),
        ("%h %{%Q}t", "%Q"),
        ("%u%h %t", "nothing stands between %u and %h"),
        ("%{User-Agent}i%u %h %t", "nothing stands between"),
        ("%h %t %{days}T", "unit s, ms or us"),
        ("%h %t %", "starts no directive"),
        ("%{User-Agent}i.%h.%u %t", "cannot be told apart"),
        ("%h.%u %t", "put a blank there"),
    ],
)
def test_apache_formats_that_cannot_be_read_are_refused(log_format: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        apache(log_format)


@pytest.mark.parametrize(
    ("log_format", "escape", "why"),
    [
        ("$remote_addr $status", "default", "no time"),
        ("$remote_addr $ $msec", "default", "names no variable"),
        ("$remote_addr $msec", "xml", "escape=default, escape=json or escape=none"),
        ("$remote_addr $msec $uri", "none", "newlines"),
        ("$remote_addr $msec $remote_user", "none", "newlines"),
        ("$remote_addr$http_user_agent $msec", "default", "nothing stands between"),
    ],
)
def test_nginx_formats_that_cannot_be_read_are_refused(log_format: str, escape: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        nginx(log_format, escape=escape)


FORGERIES = [
    rf'192.0.2.1 - - [{TIME}] "GET /\" 200 5 \"-\" \"x\" HTTP/1.1" 404 7 "-" "-"',
    rf'192.0.2.1 - - [{TIME}] "GET /?x=203.0.113.1 - - [{TIME}] \"POST / HTTP/1.1\" 200 5 HTTP/1.1" 404 7 "-" "-"',
    rf'192.0.2.1 - 203.0.113.1 - - [{TIME}] \"GET / HTTP/1.1\" 200 5 [{TIME}] "GET / HTTP/1.1" 404 7 "-" "-"',
    rf'192.0.2.1 - x [01/Jan/2030:00:00:00 +0000] [{TIME}] "GET / HTTP/1.1" 404 7 "-" "-"',
    rf'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 404 7 "\n203.0.113.1 - - [{TIME}] \"GET /\" 200 5" "[client 1.1.1.1]"',
    rf'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 404 7 "-" "\" 203.0.113.1 - - [{TIME}] \"GET /\" 200 5 \"-\" \"-"',
    rf'192.0.2.1 - - [{TIME}] "GET /\x00\x1b[2J HTTP/1.1" 404 7 "-" "\x1b]0;x\x07"',
    f'192.0.2.1 - - [{TIME}] "GET /\0\x1b[2J HTTP/1.1" 404 7 "-" "\x1b]0;x"',
    f'192.0.2.1 - - [{TIME}] "{"A" * 60000}" 404 7 "-" "-"',
    rf'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1\" 200 5 \"-\" \"-\\" 404 7 "-" "-"',
]


@pytest.mark.parametrize("line", FORGERIES)
def test_forgeries_move_nothing(line: str) -> None:
    event = read(combined(), line)
    assert (event.source_ip, event.ts, event.status, event.body_bytes) == ("192.0.2.1", TS, 404, 7)


@pytest.mark.parametrize(
    "line",
    [
        f'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 404 7 "-" "-" extra',
        f'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 404 7 "-" "-',
        f'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 404 7 "-"',
        f'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 4040 7 "-" "-"',
        f'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 404 {"7" * 5000} "-" "-"',
        f'192.0.2.1 - - [{TIME.replace("Jun", "Jux")}] "GET / HTTP/1.1" 404 7 "-" "-"',
        f'192.0.2.1 - - [{TIME.replace("-0400", "-9900")}] "GET / HTTP/1.1" 404 7 "-" "-"',
        f' 192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 404 7 "-" "-"',
        f'192.0.2.1 - - [{TIME}] "GET /\\" 404 7 "-" "-"',
        "\0\0\0",
        "",
    ],
)
def test_what_does_not_fit_whole_is_unparsed_with_a_reason(line: str) -> None:
    assert refused(combined(), line)


def test_reasons_name_what_is_wrong() -> None:
    assert "cut off" in refused(combined(), f'192.0.2.1 - - [{TIME}] "GET /a')
    assert "no time" in refused(
        combined(), f'192.0.2.1 - - [{TIME.replace("20", "40", 1)}] "GET / HTTP/1.1" 404 7 "-" "-"'
    )
    assert "NUL" in refused(combined(), "\0")
    assert "combined" in refused(combined(), "hello")


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("[::1]", "::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", None),
        ("192.0.2.01", None),
        ("192.0.2.256", None),
        ("1.2.3", None),
        ("localhost", None),
        ("-", None),
        (":" * 300, None),
    ],
)
def test_client_addresses(client: str, address: str | None) -> None:
    form = combined()
    line = f'{client} - - [{TIME}] "GET / HTTP/1.1" 404 7 "-" "-"'
    assert read(form, line).source_ip == address
    assert form.client(client.encode()) == address


def test_bytes_that_are_no_text_read_as_their_escapes() -> None:
    raw = read(combined(), f'192.0.2.1 - - [{TIME}] "GET /'.encode() + b'\xff\xc3\xa9 HTTP/1.1" 404 7 "-" "-"')
    escaped = read(combined(), rf'192.0.2.1 - - [{TIME}] "GET /\xff\xc3\xa9 HTTP/1.1" 404 7 "-" "-"')
    assert raw == escaped
    assert raw.path == "/\\xffé"


def test_a_made_up_escape_of_a_plain_sign_stays_as_it_is() -> None:
    """No server writes `\\x70` for `p`; read as `p`, a rule would match what the scan of raw lines cannot see."""
    assert read(combined(), rf'192.0.2.1 - - [{TIME}] "GET /\x70 HTTP/1.1" 404 7 "-" "-"').path == r"/\x70"


def test_formats_are_skimmed_where_client_and_time_stand_first() -> None:
    proxies = Proxies([ip_network("10.0.0.0/8")])
    assert combined().skim
    assert common().skim
    assert vhost_combined().skim
    assert combined(proxies).skim
    assert combined(proxies).client(b"10.0.0.1") is None
    assert apache('%t %h "%r"').skim is None
    assert apache("%h %{c}a %t").skim is None
    assert nginx('$remote_addr $msec "$http_x_forwarded_for"').skim
    assert nginx('$remote_addr $msec "$http_x_forwarded_for"', proxies).skim is None


def test_skim_leaves_odd_lines_to_parse() -> None:
    form = combined()
    assert form.skim is not None
    fine = f'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 404 7 "-" "-"\n'.encode()
    quoted = f'192.0.2.2 - - [{TIME}] "GET /\\" HTTP/1.1" 404 7 "-" "-"\n'.encode()
    blank = f'192.0.2.3 - a b [{TIME}] "GET / HTTP/1.1" 404 7 "-" "-"\n'.encode()
    data = fine + quoted + blank + b"\n" + b'x "\n' + fine
    row = ("192.0.2.1", TIME)
    assert form.skim(data, 0, len(data)) == [row, ("", ""), ("", ""), ("", ""), ("", ""), row]
    assert form.skim(data, 0, 0) == []
    running_on = fine[:-2] + b"\n" + b'y"\n'
    assert form.skim(running_on, 0, len(running_on)) == [("", ""), ("", "")]


def test_request_patterns_are_for_hyperscan() -> None:
    pattern = combined().request_pattern("POST", "/xmlrpc.php")
    assert pattern is not None
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    other = combined().request_pattern(None, 'é"\x1b')
    third = vhost_combined().request_pattern("GET", "/")
    assert other is not None
    assert third is not None
    database.compile(expressions=[pattern, other, third], ids=[0, 1, 2], elements=3)
    hits: list[int] = []
    line = f'1.2.3.4 - - [{TIME}] "%s" 200 820 "-" "POST /xmlrpc.php"\n'
    text = (
        line % "POST /a/xmlrpc.php HTTP/1.0"
        + line % "GET /xmlrpc.php HTTP/1.0"
        + line % r"GET /\xc3\xa9\"\x1b HTTP/1.0"
    )
    database.scan(text.encode(), match_event_handler=lambda *hit: hits.append(hit[0]))
    assert hits.count(0) == 1
    assert hits.count(1) == 1
    assert apache("%h %t %m %U").request_pattern("GET", "/x") is None
    assert combined().request_pattern("GET", "back\\slash") is None


def test_caches_are_bounded() -> None:
    form = combined()
    for second in range(10_000):
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        read(form, f'192.0.2.1 - - [20/Jun/2016:{clock} +0000] "-" 408 - "-" "-"')
        form.time_ts(b"x%d" % second, ANCHOR)
    for number in range(70_000):
        form.client(b"10.%d.%d.1" % (number // 250, number % 250))
    assert len(form._times) <= 4096
    assert len(form._raw_times) <= 4096
    assert len(form._raw_clients) <= 65536


@pytest.mark.parametrize("ending", ["\r", ""])
@pytest.mark.parametrize(
    "form", [combined(), common(), apache("%h %t %T"), nginx("$remote_addr [$time_local] $status")]
)
def test_lines_that_came_by_way_of_windows_are_read(form: AccessFormat, ending: str) -> None:
    tail = {"combined": '"GET /a HTTP/1.1" 404 7 "-" "x"', "common": '"GET /a HTTP/1.1" 404 7'}
    line = (f"192.0.2.1 - - [{TIME}] {tail[form.name]}" if form.name in tail else f"192.0.2.1 [{TIME}] 200") + ending
    assert read(form, line).ts == TS
    if form.skim is not None:
        block = f"{line}\n{line}\n".encode()
        assert form.skim(block, 0, len(block)) == [("192.0.2.1", TIME)] * 2
