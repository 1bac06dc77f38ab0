"""Request lines and request targets: what a client asked for, in one spelling."""

from __future__ import annotations

import re

Request = tuple[str | None, str, str, str, str | None]
"""method, target, path, query, protocol."""

GARBAGE: Request = (None, "", "", "", None)

_WITH_PROTOCOL = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) +(\S(?:.*\S)?) +([A-Z]{2,8}/[0-9]{1,2}(?:\.[0-9]{1,2})?)", re.DOTALL
).fullmatch
_WITHOUT_PROTOCOL = re.compile(r"([A-Z]{3,16}) +((?:/|\*|[A-Za-z][A-Za-z0-9+.-]*://).*)", re.DOTALL).fullmatch
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^/?#]*")
_ORDINARY_PROTOCOL = frozenset(("HTTP/1.1", "HTTP/2.0", "HTTP/1.0", "HTTP/3.0", "HTTP/2", "HTTP/3"))
_ORDINARY_METHOD = frozenset(("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"))
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


def split_request(text: str) -> Request:
    """The parts of a request line as logged (escapes undone). HTTP/0.9 has no protocol; garbage is all `target`."""
    words = text.split(" ", 3)
    if len(words) == 3:
        method, target, protocol = words
        # written out, though `split_target` says the same: this is the hot path, where a call costs as much as the work
        if (
            protocol in _ORDINARY_PROTOCOL
            and method in _ORDINARY_METHOD
            and target[:1] == "/"
            and "%" not in target
            and "//" not in target
            and "/." not in target
            and "#" not in target
        ):
            if "?" in target:
                path, _, query = target.partition("?")
                return method, target, path, query, protocol
            return method, target, target, "", protocol
    return _split_odd(text)


def _split_odd(text: str) -> Request:
    if text in {"", "-"}:
        return GARBAGE
    # what does not end like a request need not be searched for where its target ends
    last = text[text.rfind(" ") + 1 :]
    full = _WITH_PROTOCOL(text) if "/" in last and len(last) < 16 else None
    if full:
        path, query = split_target(full[2])
        return full[1], full[2], path, query, full[3]
    short = _WITHOUT_PROTOCOL(text)
    if short:
        path, query = split_target(short[2])
        return short[1], short[2], path, query, None
    return None, text, "", "", None


def split_target(target: str) -> tuple[str, str]:
    """(normal path, raw query). `*` and `host:port` stay as they are; of an absolute URI it is the path."""
    absolute = _ABSOLUTE.match(target)
    if absolute:
        target = target[absolute.end() :]
        if target[:1] != "/":
            target = "/" + target
    end = min(position if position >= 0 else len(target) for position in (target.find("?"), target.find("#")))
    query = target[end + 1 :] if target[end : end + 1] == "?" else ""
    return normal_path(target[:end]), query


def normal_path(path: str) -> str:
    """The path percent-decoded once, with slashes merged and dot segments resolved, never above the root."""
    if "%" in path:
        decoded = _PERCENT.sub(lambda match: bytes((int(match[1], 16),)), path.encode("utf-8", "backslashreplace"))
        path = decoded.decode("utf-8", "backslashreplace")
    return resolved(path)


def resolved(path: str) -> str:
    """Slashes merged and dot segments resolved, of a path that the server has already decoded."""
    if path[:1] != "/" or ("//" not in path and "/." not in path):
        return path
    segments: list[str] = []
    last = ""
    for last in path.split("/"):
        if last == "..":
            if segments:
                segments.pop()
        elif last not in {"", "."}:
            segments.append(last)
    end = "/" if segments and last in {"", ".", ".."} else ""
    return "/" + "/".join(segments) + end
