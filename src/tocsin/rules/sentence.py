"""A rule in a sentence, and why a line matched, for humans. Pure.

Values from log lines are hostile: they are shown as Python would write them, controls and invisible signs escaped,
and cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tocsin.duration import render_duration
from tocsin.rules.language import (
    AllOf,
    Between,
    Condition,
    Contains,
    Equal,
    EqualNumber,
    Matches,
    Missing,
    Not,
    Prefix,
    Rule,
    Suffix,
    Test,
)

SHOWN_VALUES = 3
SHOWN_CHARS = 120
SHOWN_REGEX_CHARS = 40

_NAMES = {
    "body_bytes": "body size in bytes",
    "crawler": "claim to be a crawler",
    "duration_s": "duration in seconds",
    "user_agent": "user agent",
    "vhost": "virtual host",
}
_EVENTS = {
    "http-request": ("request", "requests"),
    "auth": ("login attempt", "login attempts"),
    "line": ("line", "lines"),
    "filter": ("failure", "failures"),
}


_CLAIMS = {"verified": "a proven", "impostor": "a refuted", "unknown": "an undecided"}
_MAKES = {"line": "is named by", "filter": "has"}


def sentence_of(rule: Rule) -> str:
    """What the rule does: "Bans an address for 66h40m when it makes 3 requests POST /xmlrpc.php within 10m."."""
    if not rule.enabled:
        return f"(Switched off.) {_sentence(rule)}"
    return _sentence(rule)


def _sentence(rule: Rule) -> str:
    span = "for good" if rule.ban_s is None else f"for {render_duration(rule.ban_s)}"
    whom = _whom(rule)
    own = {"address", "network"} & set(rule.by)
    others = [name_of(field) for field in rule.by if field not in ("address", "network")]
    same = f" that share one {_listed(others, 'and')}" if others else ""
    within = "" if rule.limit == 1 else f" within {render_duration(rule.within_s)}"
    counted = _counted(rule)
    if own:
        makes = _MAKES.get(rule.on, "makes")
        return f"Bans {whom} {span} when it {makes} {counted}{same}{within}."
    return f"Bans {whom} that took part {span} when there are {counted}{same}{within}."


def _whom(rule: Rule) -> str:
    if {"address", "network"} & set(rule.by):
        article, every = "an address", "a network"
    else:
        article, every = "each address", "each network"
    if rule.ipv4_prefix == 32 and rule.ipv6_prefix == 64:
        return article
    return f"{every} (IPv4 /{rule.ipv4_prefix}, IPv6 /{rule.ipv6_prefix})"


def _counted(rule: Rule) -> str:
    """`3 requests POST /xmlrpc.php with status 200`: method and path as in a request line, the rest in words."""
    one, many = _EVENTS[rule.on]
    parts: list[str] = []
    events = f"{rule.limit:,} {one if rule.limit == 1 else many}"
    if rule.distinct is not None:
        events = many
        parts.append(f"{rule.limit:,} different {_plural(name_of(rule.distinct))}")
    conditions = list(rule.where.conditions)
    method = _taken(conditions, "method")
    path = _taken(conditions, "path")
    if method or path:
        events += " " + " ".join(word for word in (method, path) if word) if method else f" for {path}"
    parts += [condition_text(condition) for condition in conditions]
    if rule.where.any_of:
        groups = [" and ".join(map(condition_text, group)) for group in rule.where.any_of]
        parts.append("either " + ", or ".join(groups))
    if rule.line:
        events += f" matching {_regexes(rule.line)}"
    return events + (" with " + " and ".join(parts) if parts else "")


def _taken(conditions: list[Condition], field: str) -> str:
    """Takes a plain `field = value` out of the conditions, as text; empty where there is none."""
    for condition in conditions:
        if condition.field == field and isinstance(condition.test, Equal) and not condition.test.ignore_case:
            conditions.remove(condition)
            return _listed([*_cut(condition.test.values), *_more(condition.test.values)], "or")
    return ""


def condition_text(condition: Condition) -> str:
    """`user agent containing "sqlmap"`."""
    if condition.field == "crawler":
        return _claim_text(condition.test)
    return f"{name_of(condition.field)} {_test_text(condition.test)}"


def _claim_text(test: Test) -> str:
    match test:
        case Missing():
            return "no claim to be a crawler" if test.wanted else "a claim to be a crawler"
        case Not():
            return f"not {_claim_text(test.test)}"
        case AllOf():
            return " and ".join(map(_claim_text, test.tests))
        case Equal():
            return f"{_listed([_CLAIMS[value] for value in test.values], 'or')} claim to be a crawler"
    return _test_text(test)


def _test_text(test: Test) -> str:
    case = " (in any case)" if getattr(test, "ignore_case", False) else ""
    match test:
        case Equal():
            return _values(test.values, "or") + case
        case Prefix():
            return f"beginning with {_values(test.values, 'or')}{case}"
        case Suffix():
            return f"ending with {_values(test.values, 'or')}{case}"
        case Contains():
            return f"containing {_values(test.values, 'or')}{case}"
        case Matches():
            return f"matching {_regexes(test.values)}{case}"
        case EqualNumber():
            return _listed([f"{value:g}" for value in test.values], "or")
        case Between():
            return _range_text(test)
        case Missing():
            return "missing" if test.wanted else "present"
        case Not():
            return f"not {_test_text(test.test)}"
        case AllOf():
            return " and ".join(map(_test_text, test.tests))


def _range_text(test: Between) -> str:
    if test.low is None:
        return f"at most {test.high:g}"
    return f"at least {test.low:g}" if test.high is None else f"from {test.low:g} to {test.high:g}"


def name_of(field: str) -> str:
    """A field's name in a sentence."""
    return _NAMES.get(field, field)


def shown(value: object) -> str:
    """A value of a log line, safe to print."""
    if value is None:
        return "missing"
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = repr(value[:SHOWN_CHARS])
    return text + "..." if len(value) > SHOWN_CHARS else text


def _plural(name: str) -> str:
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("s") else f"{name}s"


def _regexes(values: Sequence[str]) -> str:
    """Regexes that can be taken in at a glance; of others only that they are there."""
    if all(len(value) <= SHOWN_REGEX_CHARS for value in values):
        return _values(values, "or")
    return "a regex" if len(values) == 1 else "one of some regexes"


def _values(values: Sequence[str], word: str) -> str:
    return _listed([f'"{value}"' for value in _cut(values)] + _more(values), word)


def _cut(values: Sequence[str]) -> list[str]:
    """The first few, or all where only one would be left out; long ones cut."""
    few = values if len(values) <= SHOWN_VALUES + 1 else values[:SHOWN_VALUES]
    return [value if len(value) <= SHOWN_CHARS else value[:SHOWN_CHARS] + "..." for value in few]


def _more(values: Sequence[str]) -> list[str]:
    return [f"{len(values) - SHOWN_VALUES} more"] if len(values) > SHOWN_VALUES + 1 else []


def _listed(items: Iterable[str], word: str) -> str:
    *rest, last = items
    return f"{', '.join(rest)} {word} {last}" if rest else last


def rules_table(rules: Iterable[Rule]) -> str:
    """The rules as a Markdown table, for the documentation."""
    rows = ["| rule | title | what it does |", "| --- | --- | --- |"]
    rows += [f"| `{rule.id}` | {_cell(rule.title)} | {_cell(sentence_of(rule))} |" for rule in rules]
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    for sign in "\\`*_<>|[]":
        text = text.replace(sign, f"\\{sign}")
    return text
