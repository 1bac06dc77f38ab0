"""The same lines through DuckDB and through their format, and what must be alike."""

from __future__ import annotations

from collections.abc import Sequence

from mutation import ANCHOR

from tocsin.explain.evidence.blocks import Log
from tocsin.explain.evidence.intake import Loader
from tocsin.formats import Format
from tocsin.model import Batch, HttpRequest, Unparsed

_FIELDS = "ts, took, status, source_ip, vhost, method, path, query, protocol, user_agent, referred"
Row = tuple[object, ...]


def assert_alike(fmt: Format, lines: Sequence[bytes], batch_lines: int = 1000) -> int:
    """Every line is a row, unparsed or another entry, as its format says, with the same fields; returns the rows."""
    loader = Loader(ANCHOR)
    number = loader.add_log(Log("log", fmt))
    offset = 0
    for begin in range(0, len(lines), batch_lines):
        data = b"".join(line + b"\n" for line in lines[begin : begin + batch_lines])
        loader.add(number, Batch("log", data, offset, begin + 1))
        offset += len(data)
    loader.finish()
    read = loader.table.run(f"select line, {_FIELDS} from seen")  # noqa: S608  names of ours
    rows: dict[int, Row] = {line: tuple(row) for line, *row in read}
    assert len(rows) == len(read)
    events = [fmt.parse(line, ANCHOR) for line in lines]
    for place, event in enumerate(events):
        assert rows.get(place) == (_row(event) if isinstance(event, HttpRequest) else None), lines[place]
    log = loader.logs[number]
    assert log.lines == len(lines) == len(rows) + log.unparsed + log.others
    assert log.unparsed == sum(isinstance(event, Unparsed) for event in events)
    return len(rows)


def _row(event: HttpRequest) -> Row:
    return (
        *(event.ts, event.duration_s, _fit(event.status)),
        *(
            event.source_ip,
            event.vhost,
            event.method,
            event.path,
            event.query,
            event.protocol,
            event.user_agent,
            event.referer not in (None, "", "-"),
        ),
    )


def _fit(number: int | None) -> int | None:
    """Numbers that no column holds stand for 'more than any'."""
    return None if number is None else min(number, 2**63 - 1)
