"""Apache `LogFormat` and nginx `log_format` strings, read into pieces: what stands literally, and which field where.

Facts: Apache's mod_log_config, mod_logio and mod_remoteip documentation; nginx's ngx_http_log_module and its variables.
"""

from __future__ import annotations

import re
from typing import Literal as Choice

from msgspec import Struct

from tocsin.formats.dates import CLF, ISO, PART_NAMES, TimePiece, time_piece

Slot = Choice[
    "", "client", "peer", "user", "time", "request", "method", "uri", "path", "query", "path_query", "protocol",
    "status", "body_bytes", "referer", "user_agent", "x_forwarded_for", "forwarded", "vhost",
    "duration_s", "duration_ms", "duration_us",
]  # fmt: skip
"""What a field tells; empty: nothing that an event holds."""

HOST = "host"
NUMBER = "[0-9]{1,18}|-"
SECONDS = r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?|-"
STATUS = "[0-9]{3}|-"


class Text(Struct, frozen=True):
    """Literal text between fields."""

    text: str


class Field(Struct, frozen=True):
    """A field of a line. `shape` is a strict regex of what the server makes itself, HOST an address or name without
    blanks, empty what a client may have written. Of several fields with one slot the highest `rank` tells.
    """

    spelled: str
    slot: Slot = ""
    shape: str = ""
    rank: int = 0
    time: TimePiece | None = None


Piece = Text | Field

_APACHE: dict[str, tuple[Slot, str, int]] = {
    "a": ("client", HOST, 2),
    "h": ("client", HOST, 1),
    "A": ("", HOST, 0),
    "l": ("", "", 0),
    "u": ("user", "", 0),
    "r": ("request", "", 0),
    "m": ("method", "", 0),
    "U": ("path", "", 0),
    "q": ("query", "", 0),
    "H": ("protocol", "", 0),
    "s": ("status", STATUS, 1),
    "b": ("body_bytes", NUMBER, 2),
    "B": ("body_bytes", NUMBER, 2),
    "O": ("body_bytes", NUMBER, 1),
    "I": ("", NUMBER, 0),
    "S": ("", NUMBER, 0),
    "D": ("duration_us", "-?[0-9]{1,18}|-", 0),
    "T": ("duration_s", "-?[0-9]{1,12}|-", 0),
    "v": ("vhost", HOST, 1),
    "V": ("vhost", "", 1),
    "p": ("", NUMBER, 0),
    "P": ("", "[0-9]{1,20}|-", 0),
    "k": ("", NUMBER, 0),
    "X": ("", "[-+X]", 0),
}
_APACHE_HEADERS: dict[str, tuple[Slot, int]] = {
    "referer": ("referer", 0),
    "user-agent": ("user_agent", 0),
    "x-forwarded-for": ("x_forwarded_for", 0),
    "forwarded": ("forwarded", 0),
    "host": ("vhost", 0),
}
_DURATIONS: dict[str, Slot] = {"s": "duration_s", "ms": "duration_ms", "us": "duration_us"}
_APACHE_ITEM = re.compile(
    r"%(?P<before>[!<>,0-9]*)(?:\{(?P<argument>[^}]*)\})?(?P<after>[!<>,0-9]*)(?P<directive>\^t[io]|[A-Za-z%])"
    r"|\\(?P<escaped>.)|(?P<literal>[^%\\]+)|(?P<stray>.)",
    re.DOTALL,
)
_APACHE_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def apache_pieces(log_format: str) -> list[Piece]:
    """The pieces of a LogFormat string, with or without the backslashes that the configuration file wants."""
    pieces: list[Piece] = []
    for item in _APACHE_ITEM.finditer(log_format):
        if item["literal"] is not None or item["escaped"] is not None:
            pieces.append(Text(item["literal"] or _APACHE_ESCAPED.get(item["escaped"], item["escaped"])))
        elif item["stray"] is not None:
            raise ValueError(
                f"the LogFormat {log_format!r} has a {item['stray']!r} that starts no directive such as %h"
            )
        elif item["directive"] == "%":
            pieces.append(Text("%"))
        else:
            pieces.extend(_apache_field(item))
    return pieces


def _apache_field(item: re.Match[str]) -> list[Piece]:
    directive, argument, spelled = item["directive"], item["argument"], item[0]
    modifiers = item["before"] + item["after"]
    if directive == "t":
        return _apache_time(argument, spelled)
    if directive == "i":
        header, rank = _APACHE_HEADERS.get((argument or "").lower(), ("", 0))
        return [Field(spelled, header, "", rank)]
    slot, shape, rank = _APACHE.get(directive, ("", "", 0))
    if directive == "a" and argument == "c":
        slot = "peer"
    elif directive == "T" and argument:
        if argument not in _DURATIONS:
            raise ValueError(f"{spelled} in the LogFormat: expected the unit s, ms or us")
        slot, shape = _DURATIONS[argument], "-?[0-9]{1,18}|-"
    elif directive == "s" and ">" in modifiers:
        rank = 2
    elif argument is not None and directive not in "pP":
        slot, shape = "", ""
    if any(sign.isdigit() for sign in modifiers) and shape == "[-+X]":
        shape = ""
    return [Field(spelled, slot, shape, rank)]


def _apache_time(argument: str | None, spelled: str) -> list[Piece]:
    if argument is None:
        return [Text("["), Field(spelled, "time", time=time_piece(CLF), rank=1), Text("]")]
    rank = 0 if argument.startswith("end:") else 1
    pattern = argument.removeprefix("begin:").removeprefix("end:") or CLF
    try:
        piece = time_piece(pattern)
    except ValueError as error:
        raise ValueError(f"{spelled} in the LogFormat: {error}") from error
    return [Field(spelled, "time", time=piece, rank=rank)]


_NGINX: dict[str, tuple[Slot, str, int]] = {
    "remote_addr": ("client", HOST, 1),
    "realip_remote_addr": ("peer", HOST, 0),
    "remote_user": ("user", "", 0),
    "request": ("request", "", 0),
    "request_method": ("method", "", 0),
    "request_uri": ("uri", "", 0),
    "uri": ("path", "", 1),
    "document_uri": ("path", "", 1),
    "args": ("query", "", 0),
    "query_string": ("query", "", 0),
    "server_protocol": ("protocol", "", 0),
    "status": ("status", STATUS, 1),
    "body_bytes_sent": ("body_bytes", NUMBER, 2),
    "bytes_sent": ("body_bytes", NUMBER, 1),
    "http_referer": ("referer", "", 0),
    "http_user_agent": ("user_agent", "", 0),
    "http_x_forwarded_for": ("x_forwarded_for", "", 0),
    "http_forwarded": ("forwarded", "", 0),
    "host": ("vhost", "", 1),
    "http_host": ("vhost", "", 1),
    "server_name": ("vhost", HOST, 0),
    "request_time": ("duration_s", SECONDS, 0),
    "server_addr": ("", HOST, 0),
    "hostname": ("", HOST, 0),
    "scheme": ("", "[a-z]{2,5}", 0),
    "request_id": ("", "[0-9a-f]{32}", 0),
    "pipe": ("", "[p.]", 0),
    "pid": ("", NUMBER, 0),
    "connection": ("", NUMBER, 0),
    "connection_requests": ("", NUMBER, 0),
    "connection_time": ("", SECONDS, 0),
    "request_length": ("", NUMBER, 0),
    "remote_port": ("", NUMBER, 0),
    "server_port": ("", NUMBER, 0),
    "gzip_ratio": ("", SECONDS, 0),
    "upstream_status": ("", "", 0),
}
_NGINX_TIMES = {"time_local": CLF, "time_iso8601": ISO, "msec": "s.ms"}
_NGINX_DECODED = frozenset(("uri", "document_uri", "remote_user", "request_body", "request_filename", "realpath_root"))
_NGINX_ITEM = re.compile(r"\$(?:\{([a-zA-Z0-9_]+)\}|([a-zA-Z0-9_]+))|([^$]+)|(\$)")
ESCAPES = ("default", "json", "none")


def nginx_pieces(log_format: str, escape: str = "default") -> list[Piece]:
    """The pieces of a log_format string, as nginx sees it once its configuration's quotes are taken off."""
    if escape not in ESCAPES:
        raise ValueError(f"escape={escape}: expected escape=default, escape=json or escape=none")
    pieces: list[Piece] = []
    for braced, plain, literal, stray in _NGINX_ITEM.findall(log_format):
        variable = braced or plain
        if stray:
            raise ValueError(f"the log_format {log_format!r} has a $ that names no variable such as $status")
        if literal:
            pieces.append(Text(literal))
        elif escape == "none" and variable in _NGINX_DECODED:
            raise ValueError(
                f"${variable} with escape=none: a client can write newlines there, and so whole lines of its own;"
                " use escape=default"
            )
        elif variable in _NGINX_TIMES:
            pieces.append(Field(f"${variable}", "time", time=time_piece(_NGINX_TIMES[variable]), rank=1))
        else:
            slot, shape, rank = _NGINX.get(variable, ("", "", 0))
            pieces.append(Field(f"${variable}", slot, shape, rank))
    return pieces


__all__ = ["ESCAPES", "HOST", "PART_NAMES", "Field", "Piece", "Slot", "Text", "apache_pieces", "nginx_pieces"]
