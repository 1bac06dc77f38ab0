"""Real lines and what becomes of them: the samples of `tests/conformance`, respelt, damaged, and as others write them.

All randomness is the caller's `random.Random`, so a seed (or Hypothesis) decides everything.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from random import Random
from typing import NamedTuple

from tocsin.formats import Anchor, Proxies, by_name
from tocsin.model import HttpRequest

CONFORMANCE = Path(__file__).parents[1] / "conformance"
ANCHOR = Anchor(1_718_300_000.0, UTC)


class Sample(NamedTuple):
    """A line and the format that reads it."""

    spec: str
    line: bytes


def _format_samples() -> list[Sample]:
    found = []
    for log in sorted((CONFORMANCE / "formats").glob("*.log")):
        head = json.loads(log.with_suffix(".jsonl").read_text().split("\n", 1)[0])
        found += [Sample(head["format"], line) for line in log.read_bytes().split(b"\n")[:-1]]
    return found


def _rule_samples() -> list[Sample]:
    found = []
    for log in sorted((CONFORMANCE / "rules").glob("*.log")):
        spec = "combined"
        for line in log.read_bytes().splitlines():
            if line.startswith(b"# format: "):
                spec = line.removeprefix(b"# format: ").decode()
            elif not line.startswith(b"# "):
                found.append(Sample(spec, line))
    return found


FORMAT_SAMPLES = _format_samples()
RULE_SAMPLES = _rule_samples()
SAMPLES = [*FORMAT_SAMPLES, *RULE_SAMPLES]
SPECS = sorted({sample.spec for sample in SAMPLES} | {"combined and more", "vhost_combined and more"})
PROXIES = Proxies([ip_network("10.0.0.0/8")])

JUNK = (
    b"\0", b"\x1b[31m", b'"', b'\\"', b"\\", b"\\\\", b"\\x22", b"\\xff", b"\xff", b"\xc3\xa9", b"%", b"%2", b"%zz",
    b"] ", b" ", b"  ", b"-", b"{", b"}", b":", b",", b"\t", b"\r", b"\\u0000", b"\\ud800", b'","', b"%00", b"%25",
    b"[", b"..", b" HTTP/1.1", b"::1", b"1e999", b"9" * 30, b"x" * 300,
)  # fmt: skip


def damaged(rng: Random, line: bytes) -> bytes:
    """The line with some pieces cut out, doubled, swapped with another line's, or put in; never with a newline."""
    for _ in range(rng.randrange(4)):
        start = rng.randrange(len(line) + 1)
        end = min(len(line), start + rng.choice((0, 1, 2, 8, 40)))
        kind = rng.randrange(5)
        if kind == 0:
            piece = b""
        elif kind == 1:
            piece = line[start:end] * 2
        elif kind == 2:
            other = rng.choice(SAMPLES).line
            piece = other[start : start + rng.randrange(60)]
        elif kind == 3:
            piece = rng.choice(JUNK)
        else:
            piece = rng.randbytes(rng.randrange(4))
        line = line[:start] + piece + line[end:]
    return line.replace(b"\n", b"")


def respelt(rng: Random, target: str) -> str:
    """A request target in another spelling: %XX, letter case, slashes, dot segments, a query, an absolute form."""
    path, mark, query = target.partition("?")
    signs = []
    for sign in path:
        if rng.random() < 0.06 and " " < sign < "\x7f":
            signs.append(f"%{ord(sign):02{rng.choice('xX')}}")
        elif rng.random() < 0.03:
            signs.append(sign.swapcase())
        elif sign == "/" and rng.random() < 0.15:
            signs.append(rng.choice(("//", "/./", "/x/../", "/%2e/", "/.//", "/%2E%2e/")))
        else:
            signs.append(sign)
    if mark:
        query = "".join(f"%{ord(s):02x}" if rng.random() < 0.04 and " " < s < "\x7f" else s for s in query)
    spelt = "".join(signs) + mark + query
    if rng.random() < 0.05:
        spelt = f"http://example.org{spelt}"
    if not mark and rng.random() < 0.1:
        spelt += "?x=1"
    return spelt


def _apache(rng: Random, text: str) -> str:
    named = {10: "\\n", 13: "\\r", 9: "\\t", 8: "\\b", 11: "\\v", 34: '\\"', 92: "\\\\"}
    if rng.random() < 0.3:  # as nginx does
        return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02X}" for b in text.encode())
    return "".join(named.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in text.encode())


def _in_json(rng: Random, text: str) -> str:
    """A JSON string's inside, some of its signs (as encoders may) as escapes."""
    return "".join(
        f"\\u{ord(sign):04{rng.choice('xX')}}"
        if rng.random() < 0.03 and ord(sign) < 0xD800
        else "\\/"
        if sign == "/" and rng.random() < 0.1
        else json.dumps(sign, ensure_ascii=False)[1:-1]
        for sign in text
    )


WRITTEN_SPECS = ("combined", "vhost_combined", "main", "caddy", "traefik", "json")


def written(rng: Random, request: HttpRequest, spec: str) -> bytes:
    """The request as a server with that format logs it, its target respelt."""
    target = respelt(rng, request.target)
    if spec in ("combined", "vhost_combined", "main"):
        words = [word for word in (request.method, target, request.protocol) if word is not None]
        agent, referer, user = (
            _apache(rng, text or "-") for text in (request.user_agent, request.referer, request.user)
        )
        stamp = datetime.fromtimestamp(request.ts, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        line = (
            f'{request.source_ip or "-"} - {user} [{stamp}] "{_apache(rng, " ".join(words))}" {request.status or "-"}'
            f' {request.body_bytes or "-"} "{referer}" "{agent}"'
        )
        before = "www.example.org:80 " if spec == "vhost_combined" else ""
        return (before + line + (' "-"' if spec == "main" else "")).encode()
    method, agent, referer, user, uri = (
        _in_json(rng, text or "")
        for text in (request.method, request.user_agent, request.referer, request.user, target)
    )
    status, client = request.status or 0, request.source_ip or ""
    if spec == "caddy":
        return (
            f'{{"ts":{request.ts!r},"logger":"http.log.access","request":{{"remote_ip":"{client}","method":"{method}",'
            f'"uri":"{uri}","headers":{{"User-Agent":["{agent}"],"Referer":["{referer}"]}}}},"user_id":"{user}",'
            f'"status":{status}}}'
        ).encode()
    if spec == "traefik":
        when = datetime.fromtimestamp(request.ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            f'{{"ClientAddr":"{client}:5","ClientUsername":"{user}","RequestMethod":"{method}","RequestPath":"{uri}",'
            f'"DownstreamStatus":{status},"time":"{when}","request_User-Agent":"{agent}","request_Referer":"{referer}"}}'
        ).encode()
    return (
        f'{{"time":"{request.ts!r}","remote_addr":"{client}","remote_user":"{user}","status":"{status}",'
        f'"request_method":"{method}","request_uri":"{uri}","http_user_agent":"{agent}","http_referer":"{referer}"}}'
    ).encode()


def requests() -> list[HttpRequest]:
    """The requests among the rules' samples: those that rules count, and their look-alikes."""
    found = []
    for sample in RULE_SAMPLES:
        event = by_name(sample.spec, Proxies()).parse(sample.line, ANCHOR)
        if isinstance(event, HttpRequest):
            found.append(event)
    return found
