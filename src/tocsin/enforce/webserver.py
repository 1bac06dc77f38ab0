"""Classes of requests that the web server turns away: judged, and rendered as what Apache and nginx read. Pure.

Nothing of a class ever stands in a configuration as it came. Apache's part is fixed text that `tocsin setup apache`
writes once; it compares requests with a file of values at each request. nginx's part is written anew, with every byte
that is no letter or digit as `\\xHH` of its regular expressions.

Facts: the Apache 2.4 manual (expr, core `<If>`, mod_alias `Redirect`), nginx's (map, geo and limit_req
modules), and the real servers, which the tests ask.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from msgspec import Struct

from tocsin.enforce.subjects import ADDR6, HOST4, HOST6, Network, parse_subject
from tocsin.model import MAX_WILDCARDS, Signature

MAX_CLASSES = 16
MAX_SPARED = 5000  # by one denial
MAX_LEASE_S = 3600.0
LEASE_S = 20  # without a renewal Apache denies nothing any more, after so long
MAX_CHARS = {"method": 32, "protocol": 8, "path": 1024, "query": 256, "vhost": 253, "user_agent": 1024}

Server = Literal["apache", "nginx"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PROTOCOL = re.compile(r"HTTP/[0-9](?:\.[0-9])?")
_PIECE_MARK = "\x01"
_LATE_S = 2  # a clock that is set, a request that waited


class Denial(Struct, frozen=True):
    """One class of requests that is turned away until `end_ts`, but for those from `spare` (addresses, IPv6 /64).
    `asks`: only until the browser that sends them shows a cookie.
    """

    id: str
    signature: Signature
    spare: tuple[str, ...]
    end_ts: float
    asks: bool = False

    @property
    def kind(self) -> tuple[Signature, bool]:
        """What a further denial takes the place of."""
        return self.signature, self.asks


def check(signature: Signature, spare: Sequence[str], end_ts: float, now_ts: float, *, asks: bool = False) -> None:
    """ValueError says why such requests are not turned away.

    Texts may be of bounded length, without control characters; a class must be told by more than its method or host,
    or be of pages (GET) and only ask; spared are canonical addresses or IPv6 /64; the end lies within an hour.
    """
    if asks and signature.method != "GET":
        raise ValueError(f"method: expected GET where browsers are asked, got {signature.method!r:.80}")
    for name, most in MAX_CHARS.items():
        text = getattr(signature, name)
        if text is not None and (_size(text) > most or _CONTROL.search(text)):
            raise ValueError(f"{name}: expected at most {most} bytes without control characters, got {text!r:.80}")
    if signature.method is not None and not _METHOD.fullmatch(signature.method):
        raise ValueError(f"method: expected a word, got {signature.method!r:.80}")
    if signature.protocol is not None and (signature.method is None or not _PROTOCOL.fullmatch(signature.protocol)):
        raise ValueError(f"protocol: expected one as HTTP/1.1 and a method, got {signature.protocol!r:.80}")
    if signature.vhost is not None and not site_of(signature.vhost):
        raise ValueError("vhost: expected a name, got an empty text")
    _check_path(signature, asks=asks)
    if len(spare) > MAX_SPARED:
        raise ValueError(f"expected at most {MAX_SPARED} spared, got {len(spare)}")
    for subject in spare:
        _check_spared(subject)
    if not now_ts < end_ts <= now_ts + MAX_LEASE_S:
        raise ValueError(f"expected an end within {MAX_LEASE_S:.0f} s, got one in {end_ts - now_ts:.0f} s")


def _size(text: str) -> float:
    """Its bytes; endless where no bytes say it (what was no UTF-8 in a log)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return math.inf


def _check_path(signature: Signature, *, asks: bool) -> None:
    path = signature.path
    told = path is not None or signature.query is not None or signature.user_agent is not None
    if not told and not asks:
        raise ValueError("a class needs a path, a query or a user agent")
    if path is None:
        return
    if not path.startswith("/"):
        raise ValueError(f"path: expected one from the root, got {path!r:.80}")
    if path.count("*") > MAX_WILDCARDS or any(part.count("*") > 1 for part in path.split("/")):
        raise ValueError(f"path: expected one * in a segment, {MAX_WILDCARDS} in all, got {path!r:.80}")
    if "*" in path and not path.strip("/*") and not (signature.query or signature.user_agent or asks):
        raise ValueError(f"path: {path!r} alone is most of the site")


def _check_spared(subject: str) -> None:
    try:
        known = parse_subject(subject).set in (HOST4, HOST6, ADDR6)
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"expected an address or an IPv6 /64 to be spared, got {subject!r:.80}")


# -- Apache ----------------------------------------------------------------------------------------------------------

# What `apache_classes` writes, one class a line, after the seconds of the lease: slot, method (`/` and protocol),
# host, query, path (its pieces between the wildcards), user agent. A group that did not take part is not asked for.
_FIELD, _SUBSTRING, _PIECE = r"([^\t\n]+)?", r"(?:(=)|~([^\t\n]+))?", r"(?:\x01([^\x01\t\n]*))?"
_LEASE = r"^(\d{14})\n(?>(?:\d{14} )*?\1 [^\n]*\n)"
_CLASS = (
    rf"(?:[^\n]+\n)*?(?>(\d+)\t{_FIELD}\t{_FIELD}\t{_SUBSTRING}\t"
    rf"(?:(/[^\x01\t\n]*){_PIECE * MAX_WILDCARDS})?\t{_SUBSTRING}\n)(?:[^\n]+\n)*+\n"
)
# What a client sends comes last; a path that holds a tab (%09) can be taken for a shorter one: no browser sends any.
_REQUEST = (
    r"(?(3)\3(?:/[^\t]*)?|[^\t]*)\t"
    r"(?i:(?(4)(?:(?:www\.)?\4\t[^\t]*|[^\t]*\t(?:www\.)?\4(?::\d+)?)|[^\t]*\t[^\t]*))\t"
    r"(?(5)|(?(6)(?:(?:[^\t]*?&)?|[^\t]*?(?==))\6(?:(?<==)|(?=[&\t])))[^\t]*)\t"
    r"(?(7)\7(?(8)[^/\t]*\8)(?(9)[^/\t]*\9)(?(10)[^/\t]*\g{10})(?(11)[^/\t]*\g{11})|(?s:.*?))\t"
    r"(?(12)-?$|(?(13)(?s:.*?)\g{13}))"
)
_HEX = "[0-9a-f]+:"
_NETWORKS = (
    rf"^(\d+) (?:(?=((?:{_HEX}){{4}}|(?:{_HEX}){{2,3}}:))(?=((?:{_HEX}){{3}}|(?:{_HEX}){{2}}:))((?:{_HEX}){{2}})"
    r"|(((\d+\.)\d+\.)\d+\.))"
)
BROWSER = r"^(?:Mozilla|Opera)/\d"  # what agents claim to be; old Internet Explorers are `compatible`, too
ROBOT = r"bot|crawl|spider|slurp|https?:|@|compatible;(?! MSIE)|^Mozilla/5\.0 \([^)]*\) (?!AppleWebKit|Gecko|like )"
EMBEDDED = (
    r"\.(?:css|m?js|map|wasm|woff2?|ttf|otf|eot|png|jpe?g|gif|webp|avif|svg|ico|bmp|mp3|mp4|ogg|webm|xml|txt|pdf|zip)$"
)
# What pages embed is a file: `/page.php/x.css` is not, and what a front controller answers is none either.
_FILE = f"! ( %{{REQUEST_URI}} =~ m#{EMBEDDED}#i && -z %{{PATH_INFO}} && -f %{{REQUEST_FILENAME}} )"
_HEADERS = """\
    <IfModule headers_module>
        Header always unset Content-Security-Policy
        Header always set Cache-Control no-store
        Header always set Retry-After 60
    </IfModule>
"""  # a policy of the site's would keep the script from running, a cache would hand out the cookie
_COOKIE = r"(?:^|[;,][ ]?)tocsin=([0-9a-f]{32})(?:[;,]|$)"
_WIDTHS = ("64", "48", "32", "24", "16", "8")  # of the networks that these groups name, from the second on
# `%{HTTP_HOST}` and `%{HTTP_USER_AGENT}` would have every answer say that it varies with them.
_VALUES = (
    *(
        "%{REQUEST_METHOD} . '/' . %{SERVER_PROTOCOL}",
        "%{SERVER_NAME}",
        "req_novary('Host')",
        "%{QUERY_STRING}",
        "%{REQUEST_URI}",
    ),
    "req_novary('User-Agent')",
)


def apache_conf(directory: str) -> str:
    """The lines that Apache reads once: they deny what `apache_classes` says at the moment of each request.

    Who is turned away does not keep its connection, and with it a process. An internal redirect is not asked again (the
    address it leads to is not what the client wrote), nor is a subrequest.
    Where the file is empty or missing this costs one stat(2) a request. `directory` holds no quotes or spaces.
    """
    cookie = f"! ( req_novary('Cookie') =~ m#{_COOKIE}# && -e '{directory}/token/$1' )"
    agent = "req_novary('User-Agent')"
    browser = (f"{agent} =~ m#{BROWSER}#", f"! ( {agent} =~ m#{ROBOT}#i )", _FILE)
    default, page = "default", f'"%{{file:{directory}/page}}"'
    blocks = (
        _apache_block(directory, "classes", default),
        _apache_block(directory, "pages", page, cookie),
        _apache_block(directory, "asked", page, cookie, *browser),
    )
    return (
        "# Written by `tocsin setup apache`; `tocsin setup apache --remove` takes it away.\n"
        f"# While tocsin guard says so in {directory}/classes, some requests are answered with 429\n"
        "# before PHP starts; those of the files pages and asked only until a browser has run a line of script.\n"
        "# Nothing needs to be reloaded, and nobody is denied anything any more soon after guard has ended.\n"
        f"<IfModule alias_module>\n{''.join(blocks)}</IfModule>\n"
    )


def _apache_block(directory: str, name: str, document: str, *further: str) -> str:
    """What is done with a request that belongs to a class of the file `name`, and of which all further conditions hold,
    of somebody who is not spared.
    """
    classes, spare = f"{directory}/{name}", f"{directory}/spare"
    request = r" . '\t' . ".join(_VALUES)
    networks = " || ".join(f"-e '{spare}/$1/{width}-${group}'" for group, width in enumerate(_WIDTHS, 2))
    conditions = (
        f"-s '{classes}'",
        "%{IS_SUBREQ} == 'false' && -z reqenv('REDIRECT_STATUS')",
        *further,
        rf"%{{TIME}} . '\n' . file('{classes}') . '\n' . {request} =~ m#{_LEASE}{_CLASS}{_REQUEST}#",
        f"! -e '{spare}/$2/%{{REMOTE_ADDR}}'",
        f"! ( '$2 %{{REMOTE_ADDR}}' =~ m#{_NETWORKS}# && ( {networks} ) )",
    )
    condition = " \\\n    && ".join(conditions)
    return (
        f'<If "{condition}">\n'
        "    <IfModule setenvif_module>\n        SetEnvIf Request_URI ^ nokeepalive\n    </IfModule>\n"
        f"{_HEADERS}    ErrorDocument 429 {document}\n    Redirect 429 /\n</If>\n"
    )


def question_page(token: str) -> bytes:
    """What those are answered who are asked: a browser that runs the script is let through at once. Three times in a
    minute at most, where no cookie reaches the server. `token` is of hexadecimal digits.
    """
    return (
        "<!doctype html><html lang=en><meta name=viewport content=width=device-width><title>One moment</title>"
        "<p>One moment: this site is keeping out a flood of requests; your browser shows that it sends none of them."
        "<p>If this stays, allow this site's script and cookie, or come back in some minutes."
        f"<script>document.cookie='tocsin={token}; path=/; SameSite=Lax';"
        "var now=Date.now(),past=[];try{past=JSON.parse(sessionStorage.getItem('tocsin')||'[]').filter("
        "function(each){return now-each<60000});sessionStorage.setItem('tocsin',JSON.stringify(past.concat(now)))}"
        f"catch(error){{past=[1,1,1]}}if(past.length<3&&document.cookie.indexOf('{token}')>=0)location.reload()"
        "</script>\n"
    ).encode()


def apache_classes(slots: Iterable[tuple[int, Signature]], now_ts: float, zone: tzinfo | None = None) -> bytes:
    """The file of classes as of now: it is good for LEASE_S. Empty where there are none. Several may share a slot.

    The lease is the list of its seconds, each as the server would write it, in `zone` (None: this machine's) and in
    UTC: a server that lives in neither denies nothing. An hour that comes twice in autumn does not prolong it.
    """
    lines = [_apache_class(slot, signature) for slot, signature in slots]
    if not lines:
        return b""
    seconds: dict[str, None] = {}
    for ts in range(int(now_ts) - _LATE_S, int(now_ts) + LEASE_S):
        moment = datetime.fromtimestamp(ts, UTC)
        for at in (moment, moment.astimezone(zone)):
            seconds[at.strftime("%Y%m%d%H%M%S ")] = None
    return "\n".join(("".join(seconds), *lines, "")).encode()


def _apache_class(slot: int, signature: Signature) -> str:
    path = (signature.path or "").replace("*", _PIECE_MARK)
    query, agent = _sought(signature.query), _sought(signature.user_agent)
    method = "/".join(filter(None, (signature.method, signature.protocol)))
    return "\t".join((str(slot), method, site_of(signature.vhost or ""), query, path, agent))


def site_of(vhost: str) -> str:
    """The name without `www.`: logs have the server's first name, requests any of its names."""
    return vhost[4:] if vhost[:4].lower() == "www." else vhost


def _sought(text: str | None) -> str:
    """A text to look for; `=` where there must be nothing."""
    return "" if text is None else f"~{text}" if text else "="


def subject_names(subject: str) -> Iterable[str]:
    """The names that spare an address or an IPv6 /64: see `spare_names`."""
    return spare_names(IPv6Network(subject)) if ":" in subject else (subject,)


def spare_names(network: Network) -> Iterator[str]:
    """The names in a slot's folder that spare a network: an address, or a width and the groups that Apache writes.

    A prefix that ends within a group is written out, at most 256 times; else a little more than it is spared.
    """
    bits, last = network.prefixlen, network.max_prefixlen
    if bits == last:
        yield str(network.network_address)
        if network.version == 4:
            return
    if isinstance(network, IPv4Network):
        if bits >= 8 and bits < last:
            yield from _ipv4_names(network)
        return
    width = next((width for width in (64, 48, 32) if bits <= width and width - bits <= 8), 0)
    if width:
        for each in network.subnets(new_prefix=width):
            yield from _ipv6_names(each)
    elif bits > 32 and bits < last:
        yield from spare_names(network.supernet(new_prefix=max(each for each in (64, 48, 32) if each < bits)))


def _ipv4_names(network: IPv4Network) -> Iterator[str]:
    width = next(each for each in (8, 16, 24, 32) if network.prefixlen <= each)
    for each in network.subnets(new_prefix=width):
        octets = str(each.network_address).split(".")[: width // 8]
        yield ".".join(octets) if width == 32 else f"{width}-{'.'.join(octets)}."


def _ipv6_names(network: IPv6Network) -> Iterator[str]:
    """An address is written with its longest run of zero groups left out, so its network has several beginnings."""
    groups = [f"{int(group, 16):x}" for group in network.network_address.exploded.split(":")]
    count = network.prefixlen // 16
    groups = groups[:count]
    yield f"{network.prefixlen}-{':'.join(groups)}:"
    while count > 2 and groups[-1] == "0":
        groups.pop()
        count -= 1
        yield f"{network.prefixlen}-{':'.join(groups)}::"


# -- nginx -----------------------------------------------------------------------------------------------------------

NGINX_REQUEST = r"$msec\t$request_method/$server_protocol\t$server_name\t$host\t$args\t$uri\t$http_user_agent"
_BLOCK_S = 100  # the lease of a class ends with a block of so many seconds of Unix time


def nginx_conf(denials: Sequence[Denial], now_ts: float, always: Iterable[str] = ()) -> str:
    """A file for nginx's http level that denies these classes until their ends, but for those spared and `always`.

    One request a minute is let through: `limit_req` stands at the http level and so in every server, where `return`
    would have to be written into each. Where a server or location has a `limit_req` of its own, it takes a further
    `limit_req zone=tocsin;` there: the zone is always defined.
    """
    lines = ["# Written by tocsin: `tocsin setup nginx --remove` takes it away."]
    zone = "limit_req_zone $tocsin_denied zone=tocsin:1m rate=1r/m;\nlimit_req zone=tocsin;"
    if not denials:
        return "\n".join((*lines, 'map $msec $tocsin_denied {\n    default "";\n}', zone, ""))
    always = tuple(always)
    for number, denial in enumerate(denials, 1):
        lines.append(f'geo $tocsin_spared_{number} {{\n    default "";')
        lines += [f"    {network} s;" for network in sorted({*denial.spare, *always})]
        lines.append("}")
        lines.append(f'map "{NGINX_REQUEST}" $tocsin_class_{number} {{\n    default "";')
        found = nginx_class(denial.signature, _nginx_lease(now_ts, denial.end_ts))
        lines.append(f'    "~{found}" 1;\n}}')
    either = "|".join(f"$tocsin_class_{number}$tocsin_spared_{number}" for number in range(1, len(denials) + 1))
    lines.append(f'map "|{either}|" $tocsin_denied {{\n    default "";\n    "~[|]1[|]" 1;\n}}')
    return "\n".join((*lines, zone, "limit_req_status 429;", ""))


def nginx_class(signature: Signature, lease: str) -> str:
    """The expression that tells requests of a class, as `NGINX_REQUEST` writes them after their time: `lease`."""
    any_field = r"[^\t]*\t"
    method = any_field
    if signature.method is not None:
        protocol = _nginx_text(signature.protocol) or r"[^\t]*"
        method = rf"{_nginx_text(signature.method)}/{protocol}\t"
    host = any_field * 2
    if signature.vhost is not None:
        name = rf"(?:www\.)?{_nginx_text(site_of(signature.vhost))}"
        host = rf"(?i:{name}\t[^\t]*|[^\t]*\t{name})\t"
    pieces = [_nginx_text(piece) for piece in (signature.path or "").split("*")]
    path = "[^/]*".join(pieces) + r"\t" if signature.path is not None else r"(?s:.*?)\t"
    query = any_field if signature.query is None else r"\t"
    if signature.query:
        before = r"[^\t]*?" if signature.query.startswith("=") else r"(?:[^\t]*?\x26)?"
        after = any_field if signature.query.endswith("=") else rf"(?:\x26{any_field}|\t)"
        query = f"{before}{_nginx_text(signature.query)}{after}"
    agent = {None: "", "": "-?$"}.get(signature.user_agent, f"(?s:.*?){_nginx_text(signature.user_agent)}")
    return f"^{lease}{method}{host}{query}{path}{agent}"


def _nginx_lease(now_ts: float, end_ts: float) -> str:
    """An expression for the Unix times from now to an end, a little more."""
    blocks = range(int(now_ts - _LATE_S) // _BLOCK_S, int(end_ts) // _BLOCK_S + 1)
    return rf"(?:{'|'.join(map(str, blocks))})\d\d\.\d+\t"


def _nginx_text(text: str | None) -> str:
    """A literal as nginx and its regular expressions both read it: no byte of it can mean anything else."""
    octets = (text or "").encode()
    return "".join(chr(each) if chr(each).isalnum() and each < 128 else f"\\x{each:02x}" for each in octets)
