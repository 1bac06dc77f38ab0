"""Law 9: DuckDB reads a line as its format does, line by line: no line swallows, adds or moves another."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))  # the samples, which the fuzzers mutate

from mutation import ANCHOR, SAMPLES, SPECS
from read_twice import assert_alike

from tocsin.explain.evidence.blocks import Block, Log
from tocsin.explain.evidence.intake import Loader
from tocsin.explain.evidence.shapes import shape_of
from tocsin.explain.evidence.splitting import Splitter
from tocsin.explain.evidence.table import Table
from tocsin.formats import by_name, combined, vhost_combined
from tocsin.model import Batch

GOOD = (
    b'192.0.2.7 - - [20/Jun/2016:11:17:34 -0400] "GET /a?b=c HTTP/1.1" 200 5 "https://www.example.org/x" "Mozilla/5.0"'
)
ODD = (
    b"",
    b" ",
    b"\r",
    b"\xef\xbb\xbf" + GOOD,
    GOOD + b"\r",
    GOOD[:40] + b"\r" + GOOD[40:],
    GOOD.replace(b"/a", b"/\0a"),
    GOOD.replace(b"/a", b"/\x01a"),
    GOOD.replace(b"/a", b"/\xc3\xa9\xe2\x80\xa8\xc2\x85"),
    GOOD.replace(b"/a", b"/\xff"),
    GOOD.replace(b"/a", b"/\xed\xa0\x80"),
    GOOD[:60],
    GOOD[:-1],
    b'"',
    b'"""""""',
    GOOD.replace(b"/a", b'/"a'),
    GOOD.replace(b"/a", b'/\\"a'),
    GOOD.replace(b"/a", b"/" + b"a" * 70_000),
    GOOD.replace(b"20/Jun", b"31/Jun"),
    GOOD.replace(b"20/Jun", b"20/Jux"),
    GOOD.replace(b"11:17:34", b"24:17:34"),
    GOOD.replace(b"11:17:34", b"11:17:60"),
    GOOD.replace(b"-0400", b"+2460"),
    GOOD.replace(b"-0400", b"+0560"),
    GOOD.replace(b" 200 5 ", b" 200 - "),
    GOOD.replace(b" 200 5 ", b" - 5 "),
    GOOD.replace(b" 200 5 ", b" 000 000000000000000005 "),
    GOOD.replace(b" 200 5 ", b" 200 1234567890123456789 "),
    GOOD.replace(b" 200 5 ", b" 200  5 "),
    GOOD.replace(b"192.0.2.7", b"2001:DB8::0:7"),
    GOOD.replace(b"192.0.2.7", b"::ffff:192.0.2.7"),
    GOOD.replace(b"192.0.2.7", b"host.example.org"),
    GOOD.replace(b"192.0.2.7", b"192.0.2.07"),
    GOOD.replace(b"192.0.2.7", b"192.0.2.7\t"),
    GOOD.replace(b"- - [", b"- alice bob [20/Jun/2016:11:17:34 -0400] ["),
    GOOD.replace(b"GET /a?b=c HTTP/1.1", b"-"),
    GOOD.replace(b"GET /a?b=c HTTP/1.1", b""),
    GOOD.replace(b"GET /a?b=c HTTP/1.1", b"GET  /a HTTP/1.1"),
    GOOD.replace(b"/a?b=c", b"/a?"),
    GOOD.replace(b"/a?b=c", b"//a/../%2e%2fb?x#y"),
    GOOD.replace(b"/a?b=c", b"/a?x?y%20z//"),
    GOOD.replace(b"/a?b=c", b"http://www.example.org"),
    GOOD.replace(b'"Mozilla/5.0"', b'"-"').replace(b"https://www.example.org/x", b""),
)


@pytest.mark.parametrize("spec", SPECS)
def test_all_samples_read_alike(spec: str) -> None:
    lines = [sample.line for sample in SAMPLES]
    read = assert_alike(by_name(spec), lines)
    assert read or spec in ("journal", "sshd", "combined and more", "vhost_combined and more")


def test_odd_lines_read_alike_and_leave_their_neighbours_alone() -> None:
    lines = [line for odd in ODD for line in (GOOD, odd, GOOD)]
    assert assert_alike(combined(), lines) >= 2 * len(ODD)
    assert assert_alike(combined(), [*ODD, GOOD], 1) > 0
    assert assert_alike(vhost_combined(), [b"www.example.org:443 " + line for line in lines]) >= 2 * len(ODD)


@pytest.mark.parametrize("odd", ODD[:12])
def test_a_lone_odd_line_reads_alike(odd: bytes) -> None:
    """Where nothing else in the block makes DuckDB's count of lines another."""
    assert_alike(combined(), [odd, GOOD])


@settings(derandomize=True, max_examples=15)
@given(st.lists(st.sampled_from((GOOD, *ODD)), min_size=1, max_size=30), st.integers(1, 40))
def test_neither_order_nor_batches_matter(lines: list[bytes], batch_lines: int) -> None:
    assert_alike(combined(), lines, batch_lines)


@pytest.mark.parametrize("spec", ["common", "combined", "vhost_combined", "main", "combined and more"])
def test_only_odd_lines_are_left_to_the_format(spec: str) -> None:
    """To leave all of them to it would be right, too, but ten times as slow."""
    shape = shape_of(spec)
    assert shape is not None
    good = (
        b"www.example.org:443 " * shape.vhost
        + GOOD.rpartition(b' "https')[0]
        + b' "https://www.example.org/x"' * (shape.quoted > 0)
        + b' "Mozilla/5.0"' * (shape.quoted - 1)
        + b" 1234" * shape.more
    )
    lines = [good, good.replace(b"/a", b"/\\x22"), good.replace(b"192.0.2.7", b"2001:db8::7"), b"", good[1:] + b"\r"]
    splitter = Splitter(Table(), [Log("log", by_name(spec))], ANCHOR)
    for first in (0, 1000):  # when nothing is known, and when all is
        block = Block(by_name(spec), shape, 0, os.memfd_create("lines"), [])
        block.write(0, Batch("log", b"\n".join((*lines, b"")), 0, 1), lines)
        assert list(splitter.take(block, first)) == [1, 3, 4]
        assert block.read(block.parts[0]) == lines
        os.close(block.fd)


def test_lines_of_many_logs_in_one_block_stay_apart() -> None:
    loader = Loader(ANCHOR)
    names = [f"log{number}" for number in range(5)]
    numbers = [loader.add_log(Log(name, combined(), vhost=f"{name}.example")) for name in names]
    for turn in range(6):
        for number in numbers:
            client = f"192.0.2.{10 * number + turn}".encode()
            lines = [GOOD.replace(b"192.0.2.7", client), b'"broken'] * (number + 1)
            data = b"".join(line + b"\n" for line in lines)
            loader.add(number, Batch(names[number], data, turn * len(data), turn * len(lines) + 1))
    loader.finish()
    rows = loader.table.run("select source, vhost, source_ip, count(*) from seen group by all")
    assert sorted(rows) == sorted(
        (number, f"log{number}.example", f"192.0.2.{10 * number + turn}", number + 1)
        for number in numbers
        for turn in range(6)
    )
    assert [(log.lines, log.unparsed) for log in loader.logs] == [(12 * n, 6 * n) for n in range(1, 6)]


def test_requests_that_ask_for_the_same_are_one() -> None:
    """However they are written, and whether DuckDB or a format reads them; others are not."""
    same = [GOOD.replace(b"/a?b=c", target) for target in (b"/ab?x", b"/%61b?x", b"//a%62?x")]
    same.append(same[0].replace(b"org/x", b"org/\\x"))
    others = (b"/a%3Fb?c", b"/a?b?c", b"/a?b%3Fc", b"/a", b"/a?", b"/a%20HTTP/1.1", b"/a%20HTTP/1.1?b")
    lines = [*same, *(GOOD.replace(b"/a?b=c", target) for target in others)]
    loader = Loader(ANCHOR)
    for _ in range(2):
        loader.add(loader.add_log(Log("log", combined())), Batch("log", b"\n".join((*lines, b"")), 0, 1))
    loader.finish()
    requests = loader.table.run("select request from hits order by line")
    assert len(set(requests)) == len(others)  # `/a` and `/a?` are alike
    for first in (0, len(lines)):
        assert requests[first : first + len(same)] == requests[:1] * len(same)
    assert loader.table.run("select count(*), count(distinct (method, path, query, protocol)) from requests") == [
        (len(others), len(others))
    ]


def test_numbers_without_end_in_json() -> None:
    line = b'{"time":"2026-01-02T03:04:05Z","remote_addr":"192.0.2.1","status":%d,"bytes":%d,"uri":"/"}'
    assert assert_alike(by_name("json"), [line % (200, 5), line % (10**30, 10**40)]) == 2
