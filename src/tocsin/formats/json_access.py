"""Access logs of JSON objects, one a line: Caddy, Traefik, and any other by its well-known key names.

Servers write one key of a kind, so that nothing a client sends can come up as a second one: headers sit in an object of
their own (Caddy) or under a prefix (Traefik). Where a log was configured without JSON's escapes (nginx `escape=none`) a
client can write a second one: a line that names its client twice is Unparsed.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from tocsin.formats.addresses import Proxies, canonical, forwarded, without_port, x_forwarded_for
from tocsin.formats.base import Anchor, Skim, Verbatim, given
from tocsin.formats.dates import CLF, Stamp, epoch_ts, iso_ts, time_piece
from tocsin.formats.request import split_request, split_target
from tocsin.model import Event, HttpRequest, Other, Unparsed

_NO_PROXIES = Proxies()
_Row = TypeVar("_Row")


def json_pattern(literal: str) -> bytes:
    """A regex that occurs in every JSON line that holds the text: as such, or with an escape somewhere."""
    plain = b"".join(re.escape(sign.encode()) if _plain(sign) else b'[^"\\n]{1,24}' for sign in literal)
    return plain + rb"|\\u" + (rb"|\\/" if "/" in literal else b"")


def _plain(sign: str) -> bool:
    return " " <= sign <= "~" and sign not in {'"', "\\"}


def decode_json(decoder: msgspec.json.Decoder[_Row], line: bytes) -> _Row | None:
    """The object of a line, bytes that are no UTF-8 read as `\\xhh`; None where it is none of the expected shape."""
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if line.isascii():
            return None
    text = line.decode("utf-8", "surrogateescape")
    repaired = re.sub("[\udc80-\udcff]", lambda match: rf"\\x{ord(match[0]) - 0xDC00:02x}", text)
    try:
        return decoder.decode(repaired.encode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


_ESCAPED_KEY = re.compile(rb"\\u00[4-7]").search


class _TwiceError(Exception):
    """A key stands twice in one object."""


class _Once:
    """Keys that may stand but once in an object."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = frozenset(keys)
        self._quoted = tuple(f'"{key}"'.encode() for key in keys)

    def holds(self, line: bytes) -> bool:
        """Whether it is so in a JSON line. Only a line in which it might not be so is read again."""
        if self._might_not(line):
            return self._reads_once(line)
        return True

    def _might_not(self, line: bytes) -> bool:
        for key in self._quoted:  # every JSON line comes here: a loop costs half of what `any` does
            if line.count(key) > 1:
                return True
        return b"\\u00" in line and _ESCAPED_KEY(line) is not None

    def _reads_once(self, line: bytes) -> bool:
        try:
            json.loads(line.decode("utf-8", "surrogateescape"), object_pairs_hook=self._look)
        except (ValueError, RecursionError, _TwiceError):
            return False
        return True

    def _look(self, pairs: list[tuple[str, object]]) -> None:
        named = [key for key, _ in pairs if key in self._keys]
        if len(named) > len(set(named)):
            raise _TwiceError


class _JsonFormat(Verbatim, ABC, Generic[_Row]):
    """What the JSON formats share: no bulk reading, literals that JSON may escape."""

    kind = "access"
    name = ""
    expected = ""
    once = _Once(())
    json_escapes = True
    percent_pattern = b"%[2-7]"

    def __init__(self, row: type[_Row], proxies: Proxies = _NO_PROXIES) -> None:
        self.skim: Skim | None = None
        self._proxies = proxies
        self._decoder: msgspec.json.Decoder[_Row] = msgspec.json.Decoder(row)

    def parse(self, line: bytes, anchor: Anchor) -> Event:
        """The request of one line; Unparsed where it is no object with the keys of this format."""
        row = decode_json(self._decoder, line)
        if row is None:
            cut = line[:1] == b"{" and not line.rstrip().endswith(b"}")
            return Unparsed(f"{'cut off' if cut else f'does not fit {self.name}'}: expected {self.expected}")
        if not self.once.holds(line):
            return Unparsed(
                f"does not fit {self.name}: it names its client twice, as if a client had written a part of it"
            )
        return self._event(row, anchor)

    @abstractmethod
    def _event(self, row: _Row, anchor: Anchor) -> Event:
        """The request that a row tells of."""

    def time_ts(self, text: bytes, anchor: Anchor) -> float | None:
        """Unix seconds of a time in ISO 8601 or an epoch."""
        return when_ts(text.decode("utf-8", "backslashreplace"), anchor)

    def client(self, raw: bytes) -> str | None:
        """The canonical address, unless it is a trusted proxy's."""
        address = canonical(raw.decode("utf-8", "backslashreplace"))
        return None if address is None or self._proxies.trusted(address) else address

    def request_pattern(self, method: str | None, literal: str) -> bytes | None:  # noqa: ARG002  JSON's keys have no order
        """See `Format`; the method does not narrow it."""
        return json_pattern(literal)


_CLF_STAMP = Stamp([time_piece(CLF)])
_EPOCH = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,9})?").fullmatch


def when_ts(value: object, anchor: Anchor) -> float | None:
    """Unix seconds of what loggers write as time: an epoch (number or text), ISO 8601, or the common log's form."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return epoch_ts(float(value))
    if not isinstance(value, str) or len(value) > 64:
        return None
    if _EPOCH(value):
        return epoch_ts(float(value))
    ts = iso_ts(value, anchor)
    return ts if ts is not None else _CLF_STAMP.ts(value.strip("[]"), anchor)


Header = list[str] | str | None


class CaddyHeaders(Struct, frozen=True):
    """The headers of a request that an event holds or that name its client."""

    user_agent: Header = msgspec.field(name="User-Agent", default=None)
    referer: Header = msgspec.field(name="Referer", default=None)
    x_forwarded_for: Header = msgspec.field(name="X-Forwarded-For", default=None)
    forwarded: Header = msgspec.field(name="Forwarded", default=None)


class CaddyRequest(Struct, frozen=True):
    """`request` of a Caddy entry. `remote_addr` (with port) is what 2.0 to 2.4 wrote in place of `remote_ip`."""

    method: str
    uri: str
    remote_ip: str | None = None
    remote_addr: str | None = None
    client_ip: str | None = None
    host: str | None = None
    proto: str | None = None
    headers: CaddyHeaders | None = None


class CaddyEntry(Struct, frozen=True):
    """An entry of Caddy's log."""

    ts: float | str
    logger: str = ""
    msg: str = ""
    request: CaddyRequest | None = None
    user_id: str | None = None
    duration: float | str | None = None
    size: int | None = None
    status: int | None = None


class Caddy(_JsonFormat[CaddyEntry]):
    """Caddy 2's access log (`http.log.access`), stamped at the request's end. Its other entries are Other."""

    name = "caddy"
    expected = 'a JSON object with "ts", "logger" and "request"'
    once = _Once(("request", "remote_ip", "remote_addr", "client_ip", "headers"))

    def __init__(self, proxies: Proxies = _NO_PROXIES) -> None:
        super().__init__(CaddyEntry, proxies)

    def _event(self, row: CaddyEntry, anchor: Anchor) -> Event:
        ts = when_ts(row.ts, anchor)
        if ts is None:
            return Unparsed(f'does not fit caddy: "ts" {row.ts!r:.64} is no time')
        request = row.request
        # http.log.error tells of the same request a second time
        access = row.logger.startswith("http.log.access") or (not row.logger and row.msg == "handled request")
        if request is None or not access:
            return Other()
        source_ip, via = self._who(request)
        path, query = split_target(request.uri)
        headers = request.headers or CaddyHeaders()
        return HttpRequest(
            ts,
            source_ip,
            given(request.method),
            request.uri,
            path,
            query,
            given(request.proto),
            row.status,
            row.size,
            given(_joined(headers.referer)),
            given(_joined(headers.user_agent)),
            given(row.user_id),
            _without_port_name(given(request.host)),
            row.duration if isinstance(row.duration, float) and row.duration >= 0 else None,
            via,
        )

    def _who(self, request: CaddyRequest) -> tuple[str | None, str | None]:
        peer = without_port(request.remote_ip or request.remote_addr or "")
        client = canonical(request.client_ip) if request.client_ip else peer
        if peer is not None and client is not None and client != peer:
            return client, peer  # Caddy's own trusted_proxies vouch for it
        headers = request.headers or CaddyHeaders()
        if headers.x_forwarded_for is not None:
            return self._proxies.client(peer, x_forwarded_for(_joined(headers.x_forwarded_for)))
        return self._proxies.client(peer, forwarded(_joined(headers.forwarded)))


def _joined(header: Header) -> str | None:
    return ", ".join(header) if isinstance(header, list) else header


def _without_port_name(host: str | None) -> str | None:
    if host is None:
        return None
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and (":" not in name or name.endswith("]")) else host


class TraefikRow(Struct, frozen=True, rename="pascal"):
    """An entry of Traefik's access log, format json. Durations in nanoseconds."""

    request_method: str
    request_path: str
    client_addr: str | None = None
    client_host: str | None = None
    client_username: str | None = None
    request_host: str | None = None
    request_addr: str | None = None
    request_protocol: str | None = None
    downstream_status: int | None = None
    downstream_content_size: int | None = None
    duration: int | float | None = None
    start_utc: str | None = msgspec.field(name="StartUTC", default=None)
    start_local: str | None = None
    time: str | None = msgspec.field(name="time", default=None)
    user_agent: str | None = msgspec.field(name="request_User-Agent", default=None)
    referer: str | None = msgspec.field(name="request_Referer", default=None)
    x_forwarded_for: str | None = msgspec.field(name="request_X-Forwarded-For", default=None)


class Traefik(_JsonFormat[TraefikRow]):
    """Traefik's access log in JSON, stamped at the request's start.

    Traefik puts `X-Forwarded-For`, where it let one through, into `ClientHost`: only `ClientAddr` is the peer. Where a
    configuration leaves `ClientAddr` out, a `ClientHost` that is one address is taken for it.
    """

    name = "traefik"
    expected = 'a JSON object with "RequestMethod", "RequestPath" and "StartUTC" or "time"'
    once = _Once(("ClientAddr", "ClientHost", "request_X-Forwarded-For"))

    def __init__(self, proxies: Proxies = _NO_PROXIES) -> None:
        super().__init__(TraefikRow, proxies)

    def _event(self, row: TraefikRow, anchor: Anchor) -> Event:
        ts = when_ts(row.start_utc or row.start_local or row.time, anchor)
        if ts is None:
            return Unparsed('does not fit traefik: expected a time in "StartUTC", "StartLocal" or "time"')
        peer = without_port(row.client_addr or row.client_host or "")
        claimed = row.x_forwarded_for or (row.client_host if row.client_addr else None)
        source_ip, via = self._proxies.client(peer, x_forwarded_for(claimed))
        path, query = split_target(row.request_path)
        return HttpRequest(
            ts,
            source_ip,
            given(row.request_method),
            row.request_path,
            path,
            query,
            given(row.request_protocol),
            row.downstream_status,
            row.downstream_content_size,
            given(row.referer),
            given(row.user_agent),
            given(row.client_username),
            given(row.request_host) or _without_port_name(given(row.request_addr)),
            row.duration / 1e9 if row.duration is not None and row.duration >= 0 else None,
            via,
        )


_KEYS = {
    "time": ("time_iso8601", "@timestamp", "timestamp", "time", "ts", "time_local", "msec", "datetime", "date"),
    "client": ("remote_addr", "remote_ip", "client_ip", "clientip", "client", "ip", "src_ip", "source.ip"),
    "request": ("request", "request_line"),
    "method": ("request_method", "method", "http_method", "verb", "http.request.method"),
    "target": ("request_uri", "uri", "url", "path", "request_path", "target", "url.original"),
    "query": ("args", "query_string", "query", "url.query"),
    "protocol": ("server_protocol", "protocol", "proto", "http_version"),
    "status": ("status", "status_code", "response_code", "response", "http.response.status_code"),
    "body_bytes": ("body_bytes_sent", "bytes_sent", "bytes", "size", "body_bytes", "http.response.body.bytes"),
    "referer": ("http_referer", "http_referrer", "referer", "referrer", "http.request.referrer"),
    "user_agent": ("http_user_agent", "user_agent", "useragent", "agent", "user_agent.original"),
    "user": ("remote_user", "user", "user.name"),
    "vhost": ("host", "http_host", "vhost", "server_name", "domain", "url.domain"),
    "duration_s": ("request_time", "duration_s"),
    "x_forwarded_for": ("http_x_forwarded_for", "x_forwarded_for", "xff"),
    "forwarded": ("http_forwarded", "forwarded"),
}


class JsonAccess(_JsonFormat[dict[str, Any]]):
    """Any flat JSON object a line whose keys are well known, such as an nginx log_format with `escape=json`."""

    name = "json"
    expected = "a JSON object with a time, and a request, its target or its status, under well-known keys"
    once = _Once((*_KEYS["client"], *_KEYS["x_forwarded_for"], *_KEYS["forwarded"]))

    def __init__(self, proxies: Proxies = _NO_PROXIES) -> None:
        super().__init__(dict[str, Any], proxies)

    def _event(self, row: dict[str, Any], anchor: Anchor) -> Event:
        ts = when_ts(_first(row, _KEYS["time"]), anchor)
        request, target, method = (_text(row, key) for key in ("request", "target", "method"))
        status = _whole(_first(row, _KEYS["status"]))
        if ts is None or (request is None and target is None and status is None):
            return Unparsed(f"does not fit json: expected {self.expected}")
        if request is not None and " " in request:
            method, target, path, query, protocol = split_request(request)
        else:
            target = target or ""
            path, query = split_target(target)
            query = query or (_text(row, "query") or "").removeprefix("?")
            protocol = _text(row, "protocol")
        peer = canonical(_text(row, "client") or "")
        if any(key in row for key in _KEYS["x_forwarded_for"]):
            source_ip, via = self._proxies.client(peer, x_forwarded_for(_text(row, "x_forwarded_for")))
        else:
            source_ip, via = self._proxies.client(peer, forwarded(_text(row, "forwarded")))
        return HttpRequest(
            ts,
            source_ip,
            method,
            target,
            path,
            query,
            protocol,
            status,
            _whole(_first(row, _KEYS["body_bytes"])),
            _text(row, "referer"),
            _text(row, "user_agent"),
            _text(row, "user"),
            _without_port_name(_text(row, "vhost")),
            _seconds(_first(row, _KEYS["duration_s"])),
            via,
        )


def _first(row: dict[str, Any], keys: Iterable[str]) -> object:
    return next((row[key] for key in keys if key in row), None)


def _text(row: dict[str, Any], field: str) -> str | None:
    value = _first(row, _KEYS[field])
    return given(value) if isinstance(value, str) else None


_WHOLE = re.compile(r"[0-9]{1,18}").fullmatch
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?").fullmatch


def _whole(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return int(value) if isinstance(value, str) and _WHOLE(value) else None


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    return float(value) if isinstance(value, str) and _SECONDS(value) else None
