"""Which format reads which log: named, told by its lines, or unknown; and what happens when that cannot be."""

from __future__ import annotations

from datetime import UTC
from ipaddress import ip_network

from tocsin.formats import Proxies
from tocsin.model import Batch, Evidence, HttpRequest
from tocsin.reading import LOOKED_AT_BYTES, Reading, Readings

NOW_TS = 1_466_436_000.0
STAMP = "[20/Jun/2016:11:17:34 -0400]"
COMBINED = f'203.0.113.7 - - {STAMP} "GET / HTTP/1.1" 200 5 "-" "x"\n'.encode()
VHOST = b"www.example.org:80 " + COMBINED
CADDY = (
    b'{"ts":1466435854.5,"logger":"http.log.access","request":{"remote_ip":"203.0.113.7","method":"GET","uri":"/"},'
    b'"status":200}\n'
)
JUNK = b"there is nothing here that anybody knows\n"


class Heard:
    """What the operator is told of."""

    def __init__(self, *named: tuple[str, str], proxies: Proxies | None = None) -> None:
        self.new: list[tuple[str, Reading]] = []
        self.readings = Readings(list(named), proxies or Proxies(), UTC, lambda *told: self.new.append(told))

    def name_of(self, data: bytes, source: str = "/var/log/a.log") -> str | None:
        fmt, anchor = self.readings.of(Batch(source, data), NOW_TS)
        assert (anchor.now_ts, anchor.zone) == (NOW_TS, UTC)
        return fmt.name if fmt else None


def test_a_named_format_is_taken_whatever_the_lines() -> None:
    heard = Heard(("/var/log/a.log", "vhost_combined"))
    assert heard.name_of(CADDY) == "vhost_combined"
    ((source, reading),) = heard.new
    assert (source, reading.share, reading.how) == ("/var/log/a.log", 1.0, "as configured")


def test_names_go_by_path_or_glob_and_the_first_counts() -> None:
    heard = Heard(("/var/log/a.log", "common"), ("/var/log/*.log", "combined"), ("*", "caddy"))
    assert heard.name_of(COMBINED, "/var/log/a.log") == "common"
    assert heard.name_of(COMBINED, "/var/log/b.log") == "combined"
    assert heard.name_of(COMBINED, "/srv/c") == "caddy"
    assert heard.readings.of(Batch("/srv/d", CADDY), NOW_TS)[0] is heard.readings.of(Batch("/srv/c", CADDY), NOW_TS)[0]


def test_a_name_with_brackets_is_a_path_too() -> None:
    assert Heard(("/var/log/[a].log", "common")).name_of(COMBINED, "/var/log/[a].log") == "common"


def test_an_empty_name_means_told_by_its_lines() -> None:
    for data, name in ((COMBINED, "combined"), (VHOST, "vhost_combined"), (CADDY, "caddy")):
        heard = Heard(("*", ""))
        assert heard.name_of(data * 3) == name
        assert heard.new[0][1].how == "from its lines"
        assert heard.new[0][1].share == 1.0


def test_how_sure_is_said() -> None:
    heard = Heard()
    assert heard.name_of(COMBINED * 3 + JUNK) == "combined"
    assert heard.new[0][1].share == 0.75


def test_a_format_once_told_is_kept() -> None:
    heard = Heard()
    assert heard.name_of(COMBINED) == "combined"
    assert heard.name_of(CADDY) == "combined"
    assert len(heard.new) == 1


def test_the_unknown_is_said_once_and_looked_at_again() -> None:
    heard = Heard()
    for _ in range(3):
        assert heard.name_of(JUNK) is None
    assert [reading.format for _, reading in heard.new] == [None]
    assert heard.new[0][1].how == "no known format fits"
    assert heard.name_of(COMBINED) == "combined"
    assert len(heard.new) == 2


def test_a_long_unknown_log_is_looked_at_ever_more_rarely() -> None:
    heard, block = Heard(), JUNK * (LOOKED_AT_BYTES // len(JUNK) + 1)
    assert heard.name_of(block) is None
    assert heard.name_of(block) is None  # twice as long: looked at, and again at four times
    assert heard.name_of(COMBINED * 3) is None
    assert heard.name_of(block * 2 + COMBINED) is None  # looked at, but its first lines tell nothing
    assert heard.name_of(COMBINED * 3) is None
    while heard.name_of(COMBINED * 500) is None:
        assert len(heard.new) == 1
    assert heard.name_of(JUNK) == "combined"


def test_few_fitting_lines_do_not_make_a_format() -> None:
    heard = Heard()
    assert heard.name_of(COMBINED + JUNK * 2) is None
    assert 0 < heard.new[0][1].share < 0.5


def test_a_format_that_cannot_be_read_does_not_keep_the_log_from_being_read() -> None:
    heard = Heard(("*", 'nginx $no_such_address "$request'))
    assert heard.name_of(COMBINED) == "combined"
    assert "its configured format cannot be read" in heard.new[0][1].how


def test_empty_lines_tell_nothing() -> None:
    heard = Heard()
    assert heard.name_of(b"\n\n\n") is None
    assert heard.name_of(b"\n" + COMBINED) == "combined"


def test_sources_of_one_format_share_it() -> None:
    heard = Heard()
    heard.name_of(COMBINED, "a")
    heard.name_of(COMBINED, "b")
    assert heard.readings.known["a"].format is heard.readings.known["b"].format


def test_proxies_are_believed_in_a_format_told_by_its_lines() -> None:
    heard = Heard(proxies=Proxies([ip_network("10.0.0.0/8")]))
    line = COMBINED[:-1].replace(b"203.0.113.7", b"10.0.0.1") + b' "198.51.100.9"\n'
    fmt, anchor = heard.readings.of(Batch("a", line), NOW_TS)
    assert fmt is not None
    event = fmt.parse(line[:-1], anchor)
    assert isinstance(event, HttpRequest)
    assert (event.source_ip, event.via) == ("198.51.100.9", "10.0.0.1")


def test_evidence_is_read_as_the_request_that_it_was() -> None:
    heard = Heard()
    text = COMBINED[:-1].decode()
    assert heard.readings.request_of(Evidence("a", 1, 0, text), NOW_TS) is None, "of an unknown source"
    heard.name_of(COMBINED, "a")
    request = heard.readings.request_of(Evidence("a", 1, 0, text), NOW_TS)
    assert request is not None
    assert (request.source_ip, request.method, request.path) == ("203.0.113.7", "GET", "/")
    assert heard.readings.request_of(Evidence("a", 1, 0, text[:60]), NOW_TS) is None, "cut"
    heard.name_of(COMBINED, "caf\udce9")
    assert heard.readings.request_of(Evidence("caf\\udce9", 1, 0, text), NOW_TS) == request, "evidence has it spelt out"


def test_what_to_expect_of_a_log_that_says_nothing_yet() -> None:
    heard = Heard(("/named", "caddy"))
    assert heard.readings.expected("/named", b"", NOW_TS).name == "caddy"
    assert heard.readings.expected("/empty", b"", NOW_TS).name == "combined"
    assert heard.readings.expected("/lines", VHOST, NOW_TS).name == "vhost_combined"
    assert heard.readings.expected("/junk", JUNK, NOW_TS).name == "combined"
