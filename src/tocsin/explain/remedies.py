"""What to do: what is down now, the rule that stops it, and the limits that the machine can honour. Pure."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence

from tocsin.enforce.pasting import denial_rule, literal, query_pattern
from tocsin.explain.accuse import Accused
from tocsin.explain.capacity import Capacity
from tocsin.explain.crawling import genuine_crawler
from tocsin.explain.downtime import down_at_last
from tocsin.explain.kinds import is_broad
from tocsin.explain.logins import is_login
from tocsin.explain.model import Cause, Fact, Remedy, Said, say
from tocsin.explain.own_remedies import of_misconfiguration
from tocsin.explain.robots import slower
from tocsin.explain.sockets import opening
from tocsin.explain.suspects import Carried
from tocsin.explain.symptoms import events, is_serving
from tocsin.model import Signature
from tocsin.rules import RuleErrors, read_rules
from tocsin.server_events import AppError, LimitReached, ServiceState

_MARGIN = 0.9
"""Of the workers that fit into memory, so many are advised: caches want room, too."""

_WP_CRON = """\
# wp-config.php
define('DISABLE_WP_CRON', true);
# /etc/cron.d/wordpress, with the site's own path
*/5 * * * * www-data flock -n /tmp/wp-cron.lock php /var/www/html/wp-cron.php"""

_MOST_SPILL = 0.05
_MOST_VISITORS = 0.2
_LEAST_TOLERATED = 2
"""Who asks but once may be anybody: a day's ban for it hits who asked once the day before, too."""

_MOST_TOLERATED = 3
_SELDOM = 2.0
"""Fewer requests of an address than this: most are over before anybody could be banned."""

_SENT = 0.3
_NO_DENIAL = frozenset(("caddy", "traefik"))
_TRAEFIK = re.compile(r'.{0,8000}" [0-9]{1,18} "[^"]{1,200}@[a-z]{1,40}" "[^"]{0,400}" [0-9]{1,9}ms$').fullmatch
_LIMIT = re.compile(r"^limit  = ([0-9]+)$", re.MULTILINE)


def remedies_of(
    cause: Cause,
    top: Accused | None,
    facts: Sequence[Fact],
    capacity: Capacity,
    later: Sequence[Fact] = (),
    front: str = "",
) -> tuple[Remedy, ...]:
    """The remedies, what is needed now first; the worker limit only where the verdict is about it. `later`: the facts
    after those of the outage; what they show up again need not be started. `front`: the server that wrote the access
    log, where its lines tell (`server_of`).
    """
    against = *_against(cause, top, facts, front), *_of_ours(cause, top, facts)
    return (*_restart(facts, later), *opening(facts), *against, *_record(cause), *_limits(cause, facts, capacity))


def is_narrow(top: Accused) -> bool:
    """Whether what describes a class of requests hits few others: only then may a rule or a denial be made of it."""
    one = top.carried
    return one is None or (not is_broad(one.signature) and one.spill <= _MOST_SPILL and one.visitors <= _MOST_VISITORS)


def _restart(facts: Sequence[Fact], later: Sequence[Fact]) -> Iterator[Remedy]:
    """Services whose last word is that they are down."""
    for service in filter(is_serving, down_at_last(facts, later)):
        text = say("{service} was down when the logs end: start it", service=service)
        yield Remedy(text, f"systemctl restart {service}", now=True)


def _against(cause: Cause, top: Accused | None, facts: Sequence[Fact], front: str) -> Iterator[Remedy]:
    if top is None:
        return
    if top.carried is not None and is_against_somebody(cause, top):
        yield from _shutting_out(cause, top.carried, facts, front)
    if cause == "slow-connections":
        apply = "RequestReadTimeout header=10-20,MinRate=500 body=10,MinRate=500"
        yield Remedy(say("give clients less time to send a request (Apache: mod_reqtimeout)"), apply)
    if cause == "local-job" and top.suspect.process:
        apply = f"systemd-run --scope -p MemoryMax=25% -p CPUWeight=20 {top.suspect.process} ..."
        yield Remedy(say("run the job with a limit of memory, and at another time"), apply)
    if cause == "disk-full":
        take = "du -xh / --max-depth=3 | sort -h | tail -20"
        yield Remedy(say("make room: this shows what takes most"), take, now=True)
    if cause == "crash":
        text = say("take back what was changed last, or correct what the lines above name, then start it again")
        yield Remedy(text, "", now=True)
    if cause == "crawler":
        yield from (slower(one) for one in (top.carried,) if one is not None)
    if cause == "expensive-requests":
        yield Remedy(say("cache the answer, or index what it searches; until then limit how often it may be asked for"))
    if cause == "legitimate-surge":
        yield Remedy(_bearing(top.carried))


def is_against_somebody(cause: Cause, top: Accused) -> bool:
    """Whether a class is to be turned away: not for a cause without a culprit, nor where it would hit others, or
    crawlers that are what they say.
    """
    is_guilty = cause not in {"legitimate-surge", "unknown", "local-job"}
    return is_guilty and is_narrow(top) and (top.carried is None or genuine_crawler(top.carried) is None)


def _bearing(one: Carried | None) -> Said:
    """What helps against a surge: no cache answers what is sent to be answered by name."""
    sent = 0 if one is None else sum(group.requests for group in one.groups if group.method == "POST")
    if one is not None and (sent > _SENT * one.requests or is_login(one.signature)):
        return say(
            "nobody is to be banned, and no cache can answer these: have as many workers as the memory bears, or let "
            "fewer visitors in at a time"
        )
    return say("nobody is to be banned: let a page cache answer visitors who are not logged in")


def _shutting_out(cause: Cause, one: Carried, facts: Sequence[Fact], front: str) -> Iterator[Remedy]:
    """A denial where most addresses come but once, whatever the cause is called; else a rule. Of a crowd that comes
    again, both.
    """
    denial = "" if front in _NO_DENIAL else denial_of(one.signature, facts)
    is_seldom = one.each < _SELDOM
    is_denied = bool(denial) and (is_seldom or cause == "distributed-flood")
    if is_denied:
        text = turning_away(is_usual=one.contrast.before > 0)
        if is_seldom:
            text = say("an address that comes once is banned too late: {denial}", denial=text)
        yield Remedy(text, denial)
    name, rule = ("", "") if is_seldom and denial else rule_of(cause, one)
    if rule:
        text = say("this rule for Tocsin bans who sends such requests")
        yield Remedy(text, rule, rule=name, instead="" if is_denied else denial)


def turning_away(*, is_usual: bool) -> Said:
    """What a denial is for; of what visitors ask for, too, no longer than it must be."""
    if is_usual:
        return say("turn the class away in the web server while it lasts; others ask for it, too")
    return say("turn the class away in the web server")


def _of_ours(cause: Cause, top: Accused | None, facts: Sequence[Fact]) -> Iterator[Remedy]:
    """What to change in what the site itself runs."""
    if cause == "local-job" and top is not None and top.carried is not None:
        text = say("let the machine's cron run WordPress's jobs, in place of its requests to itself")
        yield Remedy(text, _WP_CRON)
    if cause == "misconfiguration" and top is not None:
        yield from of_misconfiguration(top.suspect, facts)


def denial_of(signature: Signature, facts: Sequence[Fact]) -> str:
    """The lines for Apache's or nginx's configuration that answer 429 to a class; empty where a path is not exact."""
    if not signature.path or "*" in signature.path:
        return ""
    seen = {fact.event.service for fact in facts if isinstance(fact.event, AppError | LimitReached | ServiceState)}
    # a full queue is the backend's, but it is nginx that says so in these words
    is_nginx = "nginx" in seen or any("connect() to " in fact.text for fact, _ in events(facts, LimitReached))
    return denial_rule("nginx" if is_nginx else "apache", signature)


def server_of(line: str) -> str:
    """The server that writes such lines into its access log: `caddy`, `traefik`; empty where several do."""
    if line.startswith("{"):
        return "caddy" if '"http.log.access' in line else "traefik" if '"DownstreamStatus"' in line else ""
    return "traefik" if _TRAEFIK(line) else ""


def rule_of(cause: Cause, one: Carried) -> tuple[str, str]:
    """The id and the text of a rule in Tocsin's language that stops a class; both empty where no such rule can."""
    name = name_of(one.signature)
    text = toml_of(name, cause, one.signature, max(_LEAST_TOLERATED, min(_MOST_TOLERATED, round(one.each / 2))))
    return (name, text) if text else ("", "")


def name_of(signature: Signature) -> str:
    """The id of a class's rule: the same for the same class in every report, another for every other class."""
    words = re.findall(r"[a-z0-9]+", (signature.path or signature.user_agent or "requests").lower())
    digest = zlib.crc32(_where(signature).encode("utf-8", "backslashreplace"))
    return f"explained-{'-'.join(words[:4])[:40] or 'requests'}-{digest:08x}"


def toml_of(name: str, title: str, signature: Signature, limit: int) -> str:
    """A rule that bans for a day who sends `limit` requests of a class within ten minutes; empty where the language of
    rules cannot say it.
    """
    where = _where(signature)
    if not where:
        return ""
    lines = [
        f"[{name}]",
        f"title  = {_toml(title)}",
        'on     = "http-request"',
        f"where  = {{ {where} }}",
        'by     = "address"',
        f"limit  = {limit}",
        'within = "10m"',
        'ban    = "1d"',
    ]
    text = "\n".join(lines) + "\n"
    try:
        read_rules(text, name, {})
    except RuleErrors:
        return ""
    return text


def tolerating(rule: str, limit: int) -> str:
    """A rule of `toml_of` with another limit; itself where its own is as high."""
    own = _LIMIT.search(rule)
    return rule if own is None or int(own[1]) >= limit else _LIMIT.sub(f"limit  = {limit}", rule)


def _where(signature: Signature) -> str:
    parts = []
    if signature.method:
        parts.append(f"method = {_toml(signature.method)}")
    if signature.path:
        if "*" in signature.path:
            begins, *_ = pieces = signature.path.split("*")
            pattern = f"^{'[^/]*'.join(map(literal, pieces))}$"
            parts.append(f"path = {{ prefix = {_toml(begins)}, regex = {_toml(pattern)} }}")
        else:
            parts.append(f"path = {_toml(signature.path)}")
    if signature.query:
        holds = f"contains = {_toml(signature.query)}"
        parts.append(f"query = {{ {holds}, regex = {_toml(query_pattern(signature.query))} }}")
    if signature.user_agent:
        parts.append(f"user_agent = {{ contains = {_toml(signature.user_agent)} }}")
    if signature.vhost:
        parts.append(f"vhost = {_toml(signature.vhost)}")
    return ", ".join(parts)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # now they are TOML's basic strings, too


def _limits(cause: Cause, facts: Sequence[Fact], capacity: Capacity) -> Iterator[Remedy]:
    fitting = capacity.fitting
    if fitting is None or not capacity.workers:
        return
    advised = max(1, int(fitting * _MARGIN))
    reached = next((event.limit for _, event in events(facts, LimitReached) if not event.near), "")
    name = reached or ("pm.max_children" if capacity.worker.startswith("php") else "MaxRequestWorkers")
    if cause not in {"disk-full", "crash", "local-job"} and (
        capacity.workers >= advised or (capacity.allowed or 0) > advised
    ):
        text = say(
            "cap the workers at what the memory holds: at most {fitting} of {size:size} each fit beside the rest",
            fitting=fitting,
            size=capacity.worker_bytes,
        )
        apply = f"{name} = {advised}" if name.startswith("pm.") else f"{name} {advised}"
        yield Remedy(text, apply)


def _record(cause: Cause) -> Iterator[Remedy]:
    if cause == "unknown":
        text = say(
            "to know next time: keep the access logs, and take a snapshot of processes and connections each minute"
        )
        snapshot = "(date -Is; ps aux --sort=-rss | head -40; free; df; ss -tn) >> /var/log/tocsin/snapshot.log"
        yield Remedy(text, f"* * * * * root mkdir -p /var/log/tocsin; {snapshot}")
