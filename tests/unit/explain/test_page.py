"""The page: whole by itself, complete, well-formed, and made of nothing that a log could have put there."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from explain_reports import HOSTS, REPORTS, START, flood, flood_timeline
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tocsin.explain.model import Actor, Incident, Link, Mark, Remedy, Report, Series, Spared, Suspect, say
from tocsin.explain.telling.page import page
from tocsin.explain.telling.picture import MOST_MARKS, layers, numbered, picture
from tocsin.explain.telling.words import Language
from tocsin.model import Signature

EN, FR = Language("en", ZoneInfo("Europe/Paris")), Language("fr", ZoneInfo("Europe/Paris"))
VOID = {"meta", "line", "rect", "path", "circle"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and whether every element is closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """An element ends: the last that began."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text."""
        self.text += data


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "h4", "p", "div", "b", "pre", "code"),
    *(
        "article",
        "meter",
        "figure",
        "figcaption",
        "svg",
        "rect",
        "line",
        "text",
        "path",
        "g",
        "circle",
        "ul",
        "ol",
        "li",
    ),
    *("span", "time", "dl", "dt", "dd", "details", "summary", "table", "tr", "th", "td", "footer", "a"),
}


def read(report: Report, language: Language = EN) -> Reader:
    """The page, parsed; every element is one that a page of ours has, and closed."""
    reader = Reader(page(report, language))
    assert not reader.open
    assert reader.tags <= TAGS
    return reader


@pytest.mark.parametrize("name", REPORTS)
def test_it_needs_nothing_from_elsewhere_and_runs_nothing(name: str) -> None:
    for language in (EN, FR):
        reader = read(REPORTS[name](), language)
        names = {attribute for attribute, _ in reader.attributes}
        assert not names & {"src", "style", "srcset", "action", "xlink:href"}
        assert not [attribute for attribute in names if attribute.startswith("on")]
        assert all(value.startswith("#") for attribute, value in reader.attributes if attribute == "href")
        assert ("lang", language.code) in reader.attributes


def test_its_policy_allows_its_own_style_and_nothing_else() -> None:
    text = page(flood(), EN)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = dict(each for each in read(flood()).attributes if each[0] == "content" and "default-src" in each[1])
    assert policy == {
        "content": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    }


def test_it_is_complete() -> None:
    text = read(flood()).text
    assert all(f"{host}\n" in f"{text}\n" for host in HOSTS)
    assert "POST /xmlrpc.php" in text
    assert "access.log:18231: 203.0.113.9 - -" in text
    assert "what each request cost is an estimate" in text
    assert "systemctl restart mysql" in text
    assert "/var/log/mysql/mysql-slow.log" in text


def test_several_outages_are_listed_with_a_link_to_each() -> None:
    one = flood().incidents[0]
    later = replace(one, start=one.start + 86400, end=one.end + 86400, cause="unknown")
    reader = read(Report((), (one, later), quiet=False))
    links = [value for name, value in reader.attributes if name == "href"]
    assert links == ["#i1", "#i2"]
    assert {value for name, value in reader.attributes if name == "id"} == {"i1", "i2"}
    assert reader.text.index("Monday 6 July 2015") < reader.text.index("Sunday 5 July 2015")


def test_french() -> None:
    text = read(flood(), FR).text.replace("\u00a0", " ")
    assert "Pourquoi le serveur est tombé" in text
    assert "la mémoire s’est épuisée" in text
    assert "Qui écarter, qui épargner" in text


def test_a_quiet_day_has_no_picture() -> None:
    reader = read(REPORTS["quiet"]())
    assert "svg" not in reader.tags
    assert "Nothing went wrong" in reader.text


@given(st.text())
def test_nothing_hostile_becomes_an_element(text: str) -> None:
    evil = f"{text}<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&{text}\x1b[2J\u202e"
    said = say("{text}", text=evil)
    timeline = replace(
        flood_timeline(), unit=said, series=(Series(said, (1.0, 2.0), suspect=True),), marks=(Mark(START, evil, said),)
    )
    suspect = Suspect(
        "requests", "crawler", said, said, Signature(evil), evil, (Actor(evil, 1),) * 20, 1, 1.0, 1.0, said
    )
    incident = replace(
        flood().incidents[0],
        summary=said,
        chain=(Link(START, said, True, evil, 1, evil), Link(None, said, False, missing=True)),
        suspects=(suspect,),
        ban=(evil,) * 20,
        deny=(Signature(evil, evil, evil, evil, evil),),
        spare=(Spared(evil, said),),
        remedies=(Remedy(said, evil), Remedy(said, evil, now=True)),
        notes=(said,),
        timeline=timeline,
    )
    coverage = tuple(replace(each, source=evil, kind=evil, notes=(said,)) for each in flood().coverage)
    reader = read(Report(coverage, (incident,), quiet=False, notes=(said,)))
    assert reader.text.replace("\n", "").replace("\u00a0", "").isprintable()
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name == "src"]


# -- the picture -------------------------------------------------------------------------------------------------------


def incident() -> Incident:
    return flood().incidents[0]


def test_the_suspect_stands_on_top_of_the_stack() -> None:
    stack = layers(flood_timeline(), EN)
    assert [layer.style for layer in stack] == ["n0", "n1", "n2", "sus0"]
    assert stack[-1].name == "POST /xmlrpc.php"


def test_many_classes_become_one_rest() -> None:
    timeline = flood_timeline()
    series = tuple(Series(say("class {n}", n=i), (float(i),) * 4) for i in range(1, 12))
    stack = layers(replace(timeline, series=series), EN)
    assert [layer.style for layer in stack] == ["rest", "n0", "n1", "n2", "n3"]
    assert math.fsum(layer.values[0] for layer in stack) == sum(range(1, 12))


def test_marks_of_a_kind_that_stand_together_are_one() -> None:
    timeline = replace(
        flood_timeline(), marks=tuple(Mark(START + i, "killed", say("{n}", n=i)) for i in (40, 0, 1, 900))
    )
    assert [(each.number, each.mark.ts - START, each.more) for each in numbered(timeline)] == [(1, 0, 2), (2, 900, 0)]
    crowd = tuple(Mark(START + 200 * i, "x", say("x")) for i in range(100))
    assert len(numbered(replace(timeline, marks=crowd))) == MOST_MARKS


def test_a_long_timeline_keeps_its_peak_and_stays_small() -> None:
    values = [1.0] * 50_000
    values[31_337] = 1000.0
    timeline = replace(flood_timeline(), step_s=1.0, series=(Series(say("x"), tuple(values)),), capacity=None)
    drawn = picture(incident(), timeline, EN, 960, 360)
    assert ">1,000</text>" in drawn
    assert len(drawn) < 40_000


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=5),
    st.one_of(st.none(), st.floats()),
    st.floats(-1e12, 1e12),
    st.floats(0.001, 1e9),
)
def test_no_values_break_the_picture(values: list[float], capacity: float | None, start: float, step_s: float) -> None:
    series = (Series(say("x"), tuple(values), suspect=True), Series(say("y"), ()))
    timeline = replace(flood_timeline(), start=start, step_s=step_s, series=series, capacity=capacity)
    drawn = picture(incident(), timeline, EN, 400, 330)
    assert drawn == "" or drawn.endswith("</svg>")
    assert not re.search(r'="[^"]*(?:nan|inf)', drawn)
