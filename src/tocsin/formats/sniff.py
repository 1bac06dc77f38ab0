"""Which format a log has: by name from the configuration, or by trying the known ones on its lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from tocsin.formats.access import COMBINED, apache, combined, common, nginx, vhost_combined
from tocsin.formats.addresses import Proxies
from tocsin.formats.base import Anchor, Format
from tocsin.formats.json_access import Caddy, JsonAccess, Traefik
from tocsin.formats.logformat import ESCAPES
from tocsin.formats.syslog import Journal, Syslog
from tocsin.model import Unparsed

_NO_PROXIES = Proxies()

NGINX_MAIN = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer"'
    ' "$http_user_agent" "$http_x_forwarded_for"'
)
"""The `main` of the nginx.org packages' own nginx.conf."""

_MAKERS: dict[str, Callable[[Proxies], Format]] = {
    "vhost_combined": vhost_combined,
    "main": lambda proxies: nginx(NGINX_MAIN, proxies, name="main"),
    "combined": combined,
    "common": common,
    "caddy": Caddy,
    "traefik": Traefik,
    "journal": lambda _proxies: Journal(),
    "json": JsonAccess,
    "sshd": lambda _proxies: Syslog(),
    # whatever a server was told to append: read, and left alone
    "combined and more": lambda proxies: apache(f"{COMBINED} %{{more}}n", proxies, "combined and more"),
    "vhost_combined and more": lambda proxies: apache(f"%v {COMBINED} %{{more}}n", proxies, "vhost_combined and more"),
}
_ALIASES = {"syslog": "sshd", "sshd-syslog": "sshd", "caddy-json": "caddy", "traefik-json": "traefik"}
_SAMPLE_CHARACTERS = 1000


class Guess(Struct, frozen=True):
    """How well a format fits some lines: `share` (0 to 1) of the `tried` fit; `addressed` also told whom to ban.

    `sample` is a line that does not fit, cut to 1,000 characters, raw and hostile; empty where all do.
    """

    format: Format
    share: float
    tried: int
    addressed: float
    sample: str = ""


def sniff(lines: Sequence[bytes], anchor: Anchor, proxies: Proxies = _NO_PROXIES) -> list[Guess]:
    """Every known format that fits any of the lines, the best first.

    Of formats that fit as many lines, the one that finds an address on more of them is better (a vhost_combined line
    also reads as combined, with the virtual host for a client's name), then the more specific one.
    """
    guesses = [guess for make in _MAKERS.values() if (guess := _guess(make(proxies), lines, anchor)).share > 0]
    guesses.sort(key=lambda guess: (-guess.share, -guess.addressed))
    return guesses


def best(guesses: Sequence[Guess], least_share: float = 0.5) -> Guess | None:
    """The guess to go by: the first, where it fits at least this share of the lines; None where none does."""
    return guesses[0] if guesses and guesses[0].share >= least_share else None


def _guess(candidate: Format, lines: Sequence[bytes], anchor: Anchor) -> Guess:
    fitting = addressed = 0
    sample: bytes | None = None
    for line in lines:
        event = candidate.parse(line, anchor)
        if isinstance(event, Unparsed):
            sample = line if sample is None else sample
        else:
            fitting += 1
            addressed += getattr(event, "source_ip", None) is not None or getattr(event, "via", None) is not None
    tried = len(lines)
    shown = (sample or b"").decode("utf-8", "backslashreplace")[:_SAMPLE_CHARACTERS]
    return Guess(candidate, fitting / tried if tried else 0.0, tried, addressed / tried if tried else 0.0, shown)


def by_name(spec: str, proxies: Proxies = _NO_PROXIES) -> Format:
    """The format that a configuration names: a known name, `apache LOGFORMAT` or `nginx [escape=E] LOG_FORMAT`.

    ValueError says what was expected.
    """
    spec = spec.strip()
    name, _, rest = spec.partition(" ")
    maker = _MAKERS.get(_ALIASES.get(spec, spec))
    if maker is not None:
        return maker(proxies)
    if name == "apache" and rest.strip():
        return apache(rest.strip(), proxies)
    if name == "nginx" and rest.strip():
        rest = rest.strip()
        escape = "default"
        if rest.startswith("escape="):
            word, _, rest = rest.partition(" ")
            escape = word.removeprefix("escape=")
        if escape in ESCAPES and not rest.strip():
            raise ValueError(f"{spec!r} has no log_format string; expected `nginx escape={escape} $remote_addr ...`")
        return nginx(rest.strip(), proxies, escape)
    known = ", ".join([*_MAKERS, *_ALIASES])
    raise ValueError(
        f"{spec!r} is no log format; expected one of {known}, `apache LOGFORMAT` (such as `apache %h %l %u %t"
        ' "%r" %>s %b`) or `nginx LOG_FORMAT` (such as `nginx $remote_addr [$time_local] "$request" $status`)'
    )
