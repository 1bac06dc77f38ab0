"""What OpenSSH's sshd says about logins, without counting one attempt twice.

A line is read by itself, so that each attempt must be told by exactly one line:

- `Failed METHOD for ...` is a guess: a failure with that method. `Failed none` (every client begins so) is not, nor
  is `Failed publickey` for a user that exists: clients offer each key they hold.
- A connection that names a user and never logs in, as probes of hosts that take keys alone do, is a failure with the
  method `preauth`, whether it guessed or not: told by `Invalid user` or `User ... not allowed because` where nobody
  may log in under that name, by `Connection closed by|Connection reset by|Disconnected from|Disconnecting
  authenticating user` where somebody may.
- `Accepted METHOD for ...` is a success.
- PAM's lines, `maximum authentication attempts exceeded`, `Received disconnect` and the leaving of an invalid user
  repeat what one of these has said: no event.

So a rule on guesses asks for a `method` other than `preauth`, a rule on probing for `preauth`, and each counts
everything once; a rule that asks for neither counts a connection once beside its guesses.

User names are what the client sent, up to 100 signs, unprintable ones as `\\ooo`. An address stands only where sshd
itself puts it: each pattern is anchored at both ends and read from the right, so that ` from 192.0.2.1 port 22` in a
name is part of the name. Facts: OpenSSH's auth.c, auth2.c, packet.c.
"""

from __future__ import annotations

import re
from typing import Literal

from tocsin.formats.addresses import canonical
from tocsin.model import AuthAttempt, Event, Other, Unparsed

TAGS = frozenset(("sshd", "sshd-session", "sshd-auth"))
"""The processes that speak: sshd-session since OpenSSH 9.8, sshd-auth since 10.0."""

_FROM = r"from (?P<address>\S+) port [0-9]{1,5}"
_AT = r"(?P<address>\S+) port [0-9]{1,5}"
_GUESS = re.compile(
    r"(?P<outcome>Failed|Accepted) (?P<method>[a-z-]+)(?:/[a-z-]+)? for (?P<invalid>(?:invalid|illegal) user )?"
    rf"(?P<user>.*) {_FROM} ssh2?",
    re.DOTALL,
).fullmatch
_KEY_TAIL = re.compile(r" from (\S+) port [0-9]{1,5} ssh2(?=$|: )")
_NOT_ALLOWED = (
    "listed in DenyUsers|not listed in AllowUsers|not in any group|none of user's groups are listed in AllowGroups"
    r"|a group is listed in DenyGroups|account is locked|shell \S+ (?:does not exist|is not executable)"
)
_PROBES = tuple(
    re.compile(pattern, re.DOTALL).fullmatch
    for pattern in (
        r"(?:Invalid|Illegal) user (?P<user>.*) from (?P<address>\S+)(?: port [0-9]{1,5})?",
        rf"User (?P<user>.*) from (?P<address>\S+) not allowed because (?:{_NOT_ALLOWED})",
        rf"(?:Connection (?:closed|reset) by|Disconnected from) authenticating user (?P<user>.*) {_AT} \[preauth\]",
        rf"Disconnecting authenticating user (?P<user>.*) {_AT}: Too many authentication failures \[preauth\]",
    )
)
_REPEATED = re.compile(r"message repeated ([0-9]{1,6}) times: \[ ?(.*)\]", re.DOTALL).fullmatch
_KEY_METHODS = frozenset(("publickey", "hostbased"))


def login_event(ts: float, message: str) -> Event:
    """The event of a message of sshd. Most of what it says is Other; a line with two readings is Unparsed."""
    repeated = _REPEATED(message)
    if repeated:
        message = repeated[2]
    if message.startswith(("Failed ", "Accepted ")):
        return _guess(ts, message)
    if not message.startswith(("Invalid ", "Illegal ", "User ", "Connection ", "Disconnect")):
        return Other()
    for probe in _PROBES:
        match = probe(message)
        if match:
            return AuthAttempt(ts, canonical(match["address"]), "sshd", match["user"], "failure", "preauth")
    return Other()


def _guess(ts: float, message: str) -> Event:
    method = message.split(" ", 2)[1]
    head = message
    if method in _KEY_METHODS:
        # what follows `ssh2: ` may hold a key's name that the client chose, what precedes a user's: one reading or none
        tails = list(_KEY_TAIL.finditer(message))
        if len(tails) > 1:
            return Unparsed("sshd: a user or key name pretends to be the end of the line")
        head = message[: tails[0].end()] if tails else message
    match = _GUESS(head)
    if match is None:
        return Other()
    outcome: Literal["success", "failure"] = "success" if match["outcome"] == "Accepted" else "failure"
    known_user = match["invalid"] is None
    if outcome == "failure" and (method == "none" or (method in _KEY_METHODS and known_user)):
        return Other()
    return AuthAttempt(ts, canonical(match["address"]), "sshd", match["user"], outcome, match["method"])
