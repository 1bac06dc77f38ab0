"""Laws of the rules: the needs are necessary (law 7), and the compiled predicate means what the language says.

Rules and requests are made from the same few words, so that they meet; the requests are then spelled in every way that
a client or a server can spell them: percent-encoded, escaped, with doubled slashes and dot segments, in other case,
with bytes that are no UTF-8 before and after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC
from typing import Any

from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tocsin.formats import Anchor, Proxies, by_name
from tocsin.model import HttpRequest
from tocsin.rules import CompiledRule, RuleErrors, compile_rule, read_rules
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

ANCHOR = Anchor(1_700_000_000.0, UTC)
COMBINED = by_name("combined", Proxies())
SPLIT = by_name(
    'nginx $remote_addr [$time_local] $request_method "$uri" "$args" $status "$remote_user" "$http_referer" '
    '"$http_user_agent"',
    Proxies(),
)
CADDY = by_name("caddy", Proxies())

WORDS = [
    "xmlrpc.php",
    ".git",
    "config",
    "admin",
    "Fae",
    "face",
    ".env",
    "wp-login.php",
    "a b",
    "x%y",
    "caf\u00e9",
    'q"q',
    "b\\c",
]
METHODS = ["GET", "POST", "PROPFIND"]
TEXT_FIELDS = ["path", "target", "query", "referer", "user_agent", "user"]

words = st.sampled_from(WORDS)
paths = st.lists(words, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
pieces = st.one_of(words, paths, st.tuples(words, st.sampled_from(["/", "?", "="]), words).map("".join))


def toml(value: object) -> str:
    """A value as TOML: JSON's spelling but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


@st.composite
def text_tests(draw: st.DrawFn, field: str) -> tuple[dict[str, Any], str, list[str]]:
    """An operator table for a text field, its operator, and the texts that it looks for."""
    operator = draw(st.sampled_from(["equal", "prefix", "suffix", "contains", "regex"]))
    whole = operator in {"equal", "prefix"}
    values = paths if field == "path" and whole else st.one_of(words, paths) if field == "path" else pieces
    wanted = draw(st.lists(values, min_size=1, max_size=3, unique=True))
    operands = wanted
    if operator == "regex":
        begin = draw(st.sampled_from(["", "(?:x|)", "[^/]?"]))
        operands = [begin + re.escape(operand).replace(r"\ ", " ") for operand in wanted]
    test: dict[str, Any] = {operator: operands}
    if draw(st.booleans()):
        test["ignore_case"] = True
    return test, operator, wanted


@st.composite
def conditions(draw: st.DrawFn) -> tuple[dict[str, object], dict[str, tuple[str, str]]]:
    """One to three conditions; and for the text fields among them the operator and a text that it looks for."""
    where: dict[str, object] = {}
    wanted: dict[str, tuple[str, str]] = {}
    fields = draw(st.lists(st.sampled_from(TEXT_FIELDS), min_size=1, max_size=2, unique=True))
    for field in fields:
        test, operator, texts = draw(text_tests(field))
        kind = draw(st.integers(0, 9))
        where[field] = {"missing": draw(st.booleans())} if kind == 0 else {"not": test} if kind == 1 else test
        if kind > 1:
            wanted[field] = operator, draw(st.sampled_from(texts))
    if draw(st.integers(0, 3)) == 0:
        where["method"] = draw(st.lists(st.sampled_from(METHODS), min_size=1, max_size=2, unique=True))
    if draw(st.integers(0, 3)) == 0:
        where["status"] = draw(st.sampled_from([404, [200, 404], {"min": 400, "max": 404}, {"not": 404}, {"max": 300}]))
    return where, wanted


@st.composite
def meetings(draw: st.DrawFn) -> tuple[CompiledRule, dict[str, Any]]:
    """A rule as a user could write it, read through TOML, and the parts of a request that it may well count."""
    where, wanted = draw(conditions())
    if draw(st.integers(0, 3)) == 0:
        alternatives = draw(st.lists(conditions(), min_size=2, max_size=3))
        where["any"] = [each for each, _ in alternatives]
        wanted = draw(st.sampled_from(alternatives))[1] | wanted
    text = f'[r]\non = "http-request"\nlimit = 1\nban = 60\nwhere = {toml(where)}\n'
    try:
        (rule,) = read_rules(text, "r.toml", shipped=True)  # without time-outs, which would be no law
    except RuleErrors as errors:
        # A path that cannot be, or a text drawn twice, are the mistakes that these rules can have.
        assert all("path" in error.key or "query" in error.key for error in errors.errors), str(errors)  # noqa: PT017  not what is tested
        reject()
    return compile_rule(rule), draw(requests(wanted))


# -- requests as they are spelled ------------------------------------------------------------------------------------


@st.composite
def spelled(draw: st.DrawFn, text: str, *, percent: bool) -> bytes:
    """A text as a client may send it: here and there percent-encoded, or in other case, or with odd slashes, or all."""
    manners = draw(st.sampled_from(["", "percent", "case", "slashes", "percent case slashes"]))
    out = b""
    for char in text:
        odd = draw(st.integers(0, 3)) == 0
        if percent and ((odd and "percent" in manners) or char in ' "\\%?#'):
            code = "".join(f"%{byte:02x}" for byte in char.encode())
            out += (code.upper() if draw(st.booleans()) else code).encode()
        elif odd and "case" in manners:
            out += char.swapcase().encode()
        elif percent and char == "/" and "slashes" in manners:
            out += draw(st.sampled_from([b"//", b"/./", b"/x/../", b"/"]))
        else:
            out += char.encode()
    return out


STRAYS = [b"", b"", b"\xfa", b"\xc3", b"x"]


@st.composite
def texts_for(draw: st.DrawFn, operator: str, text: str, *, percent: bool) -> bytes:
    """A text in which the operator may find what it looks for, though the client did not send all of it: a byte that
    is no UTF-8 reads as its hex digits, which may be the first letters of the text.
    """
    if operator in {"equal", "prefix"}:
        out = draw(spelled(text, percent=percent))
    elif text[0] in "abcdef" and draw(st.booleans()):
        out = bytes((int(f"f{text[0]}", 16),)) + draw(spelled(text[1:], percent=percent))
    else:
        out = draw(st.sampled_from(STRAYS)) + draw(spelled(text, percent=percent))
    return out + draw(st.sampled_from([b"", b"", b"tail"])) if operator not in {"equal", "suffix"} else out


def logged(raw: bytes) -> bytes:
    """Bytes as Apache writes them inside quotes; those beyond ASCII raw, as nginx may."""
    return raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def logged_all(raw: bytes) -> bytes:
    """Bytes as Apache writes them inside quotes."""
    return b"".join(bytes((code,)) if 0x20 <= code < 0x7F else b"\\x%02x" % code for code in logged(raw))


@st.composite
def requests(draw: st.DrawFn, wanted: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """The parts of a request, as bytes, in which the wanted texts stand."""
    parts: dict[str, bytes] = {}
    for field in TEXT_FIELDS:
        if field in wanted:
            parts[field] = draw(texts_for(*wanted[field], percent=field == "path"))
        elif field not in {"path", "target"} and draw(st.booleans()):
            parts[field] = draw(pieces).encode()
    path = parts.get("path", b"/x")
    target = path if path[:1] == b"/" else b"/x" + path
    if "query" in parts:
        target += b"?" + parts["query"]
    target = parts.get("target", target).replace(b" ", b"+") or b"/"
    return {
        "method": draw(st.sampled_from(METHODS)).encode(),
        "target": b"http://example.org" + target if draw(st.integers(0, 9)) == 0 else target,
        "status": draw(st.sampled_from([200, 301, 404, 404, 500])),
        "referer": parts.get("referer", b"-"),
        "user_agent": parts.get("user_agent", b"-"),
        "user": parts.get("user", b"-"),
    }


def combined_line(request: dict[str, Any], quote: Callable[[bytes], bytes]) -> bytes:
    """The request as a line of a combined log."""
    head = b"192.0.2.7 - %s [20/Jun/2016:11:17:34 -0400]" % quote(request["user"])
    line = b'"%s %s HTTP/1.1" %d 404' % (request["method"], quote(request["target"]), request["status"])
    return b'%s %s "%s" "%s"' % (head, line, quote(request["referer"]), quote(request["user_agent"]))


def split_line(request: dict[str, Any], quote: Callable[[bytes], bytes]) -> bytes:
    """The request as nginx logs it where path and query are fields of their own, and the path is decoded."""
    path, _, query = request["target"].partition(b"?")
    head = b"192.0.2.7 [20/Jun/2016:11:17:34 -0400] %s" % request["method"]
    line = b'%s "%s" "%s" %d' % (head, quote(path), quote(query), request["status"])
    return b'%s "%s" "%s" "%s"' % (
        line,
        quote(request["user"]),
        quote(request["referer"]),
        quote(request["user_agent"]),
    )


def json_string(raw: bytes, escape: Callable[[int], bool]) -> str:
    """A JSON string in which the encoder escaped what it liked."""
    out = ""
    for place, char in enumerate(raw.decode("utf-8", "replace")):
        if char in '"\\' or char < " ":
            out += json.dumps(char)[1:-1]
        elif char == "/" and escape(place):
            out += "\\/"
        elif escape(place) and ord(char) < 0x10000:
            out += f"\\u{ord(char):04x}"
        else:
            out += char
    return f'"{out}"'


@st.composite
def caddy_meetings(draw: st.DrawFn) -> tuple[CompiledRule, bytes]:
    """A rule, and a request as a line of Caddy's log, some characters needlessly escaped."""
    rule, request = draw(meetings())
    odd = draw(st.sets(st.integers(0, 12), max_size=3))

    def text(name: str) -> str:
        return json_string(request[name], odd.__contains__)

    headers = f'{{"User-Agent":[{text("user_agent")}],"Referer":[{text("referer")}]}}'
    inner = f'"remote_ip":"192.0.2.7","client_ip":"192.0.2.7","proto":"HTTP/1.1","method":{text("method")},"host":"x"'
    line = (
        f'{{"level":"info","ts":1466435854.5,"logger":"http.log.access","msg":"handled request","request":{{{inner},'
        f'"uri":{text("target")},"headers":{headers}}},"user_id":{text("user")},"duration":0.01,"size":12,'
        f'"status":{request["status"]}}}'
    )
    return rule, line.encode()


# -- the laws --------------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(meetings(), st.sampled_from([logged, logged_all]), st.booleans())
def test_needs_are_necessary(
    meeting: tuple[CompiledRule, dict[str, Any]],
    quote: Callable[[bytes], bytes],
    split: bool,
) -> None:
    """A line that the rule counts fulfils the rule's needs, however it is spelled."""
    rule, request = meeting
    line = (split_line if split else combined_line)(request, quote)
    event = (SPLIT if split else COMBINED).parse(line, ANCHOR)
    assert isinstance(event, HttpRequest), line
    if rule.predicate(event):
        assert rule.need_holds(line), (rule.rule.where, line)


@settings(max_examples=300)
@given(caddy_meetings())
def test_needs_are_necessary_in_json_logs(meeting: tuple[CompiledRule, bytes]) -> None:
    """The same where the log's own encoder may escape any character."""
    rule, line = meeting
    event = CADDY.parse(line, ANCHOR)
    assert isinstance(event, HttpRequest), line
    if rule.predicate(event):
        assert rule.need_holds(line, json=True), (rule.rule.where, line)


def meets(rule: Rule, event: HttpRequest) -> bool:
    """The language read word by word, without regard to speed."""
    fits = all(passes(condition, event) for condition in rule.where.conditions)
    any_of = rule.where.any_of
    return fits and (not any_of or any(all(passes(each, event) for each in group) for group in any_of))


def passes(condition: Condition, event: HttpRequest) -> bool:
    """Whether one condition holds."""
    return holds(condition.test, getattr(event, condition.field))


def holds(test: Test, value: Any) -> bool:
    """Whether a value passes a test."""
    if isinstance(test, Not):
        return not holds(test.test, value)
    if isinstance(test, AllOf):
        return all(holds(each, value) for each in test.tests)
    if isinstance(test, Missing):
        return (value in (None, "")) is test.wanted
    if value is None:
        return False
    if isinstance(test, EqualNumber):
        return any(value == each for each in test.values)
    if isinstance(test, Between):
        return (test.low is None or value >= test.low) and (test.high is None or value <= test.high)
    flags = re.ASCII | re.DOTALL | (re.IGNORECASE if test.ignore_case else 0)
    shapes = {Equal: r"\A{}\Z", Prefix: r"\A{}", Suffix: r"{}\Z", Contains: "{}"}
    if isinstance(test, Matches):
        return any(re.search(each, value, flags & ~re.DOTALL) for each in test.values)
    return any(re.search(shapes[type(test)].format(re.escape(each)), value, flags) for each in test.values)


@settings(max_examples=300)
@given(meetings())
def test_the_predicate_means_what_the_language_says(meeting: tuple[CompiledRule, dict[str, Any]]) -> None:
    """Fast closures and a plain reading agree; so does the explanation."""
    rule, request = meeting
    event = COMBINED.parse(combined_line(request, logged), ANCHOR)
    assert isinstance(event, HttpRequest)
    assert rule.predicate(event) is meets(rule.rule, event)
    assert rule.explain_match(event).startswith("yes: " if meets(rule.rule, event) else "no: ")
    assert rule.explain_match(event).isprintable()


@settings(max_examples=200)
@given(st.text(max_size=300), st.sampled_from(["toml", "rule", "where"]))
def test_any_text_is_rules_or_mistakes(text: str, place: str) -> None:
    """Whatever stands in a file: rules, or RuleErrors with a line; never another error."""
    if place == "rule":
        text = f"[r]\n{text}"
    elif place == "where":
        text = f'[r]\non = "http-request"\nlimit = 1\nban = 60\nwhere = {{ {text} }}'
    try:
        for rule in read_rules(text, "r.toml"):
            compile_rule(rule)
    except RuleErrors as errors:
        assert all(error.line >= 1 and error.problem for error in errors.errors)  # noqa: PT017  both ends are fine
