"""The description that separates now from normal."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tocsin.detect.contrast import (
    Cell,
    Contrast,
    agent_tokens,
    contrasts,
    family_of,
    features_of,
    holds,
    is_browser,
    is_software,
    likelihood,
    narrowed,
    path_shapes,
    query_parts,
)

VISITOR = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"


def cell(
    now: int, before: int, path: str, method: str = "GET", query: str = "", agent: str = VISITOR, cost: float = 0.3
) -> Cell:
    return Cell(now * cost, before * cost, now, before, features_of(method, path, query, None, agent))


NORMAL = [cell(10, 60, f"/post-{i}/") for i in range(20)] + [cell(2, 12, "/", query=f"s=word{i}") for i in range(5)]


def best(*attack: Cell) -> tuple[Contrast, dict[str, str]]:
    """The best description of an attack amid normal requests, and the same narrowed."""
    cells = [*NORMAL, *attack]
    found = contrasts(cells, 100.0, 600.0)[0]
    return found, dict(narrowed(found.features, cells, lambda feature: feature[0] != "user_agent"))


def test_a_path_that_is_new_carries_the_excess() -> None:
    found, description = best(cell(500, 2, "/xmlrpc.php", "POST", cost=1.0))
    assert description == {"method": "POST", "path": "/xmlrpc.php"}
    assert found.share > 0.95
    assert found.lift > 50


def test_what_is_spread_over_all_paths_is_told_by_its_agent() -> None:
    found, _ = best(*(cell(5, 0, f"/post-{i}/", agent="Fetcher/1.0") for i in range(100)))
    assert [dimension for dimension, _ in found.features] == ["user_agent"]


def test_a_query_is_told_by_its_name() -> None:
    _, description = best(*(cell(3, 0, "/", query=f"s=dear{i}", cost=5.0) for i in range(40)))
    assert (description["path"], description["query"]) == ("/", "s=")


def test_where_visitors_stay_away_a_class_is_not_split_by_its_agents() -> None:
    """The excess of all requests is less than one agent's then."""
    gone = [cell(0, 600, f"/post-{i}/") for i in range(5)]
    attack = [cell(25, 0, "/", "POST", agent=f"Browser/{i}") for i in range(20)]
    ranked = contrasts([*NORMAL, *gone, *attack], 100.0, 600.0)
    assert {dimension for dimension, _ in ranked[0].features} <= {"method", "path"}
    assert max(one.share for one in ranked if one.value("user_agent")) < 0.2


def test_nothing_is_said_of_nothing() -> None:
    assert contrasts([], 100.0, 100.0) == []
    assert contrasts([cell(0, 50, "/")], 100.0, 100.0) == []


def test_a_description_is_narrowed_by_what_all_share() -> None:
    attack = cell(500, 0, "/xmlrpc.php", "POST", agent="Fake/1.0")
    found = narrowed((("path", "/xmlrpc.php"),), [*NORMAL, attack], lambda _: True)
    assert dict(found) == {"method": "POST", "path": "/xmlrpc.php", "user_agent": "Fake/1.0"}
    assert holds(found, attack)
    assert not any(holds(found, one) for one in NORMAL)


@pytest.mark.parametrize(
    ("agent", "family", "browser", "software"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox", True, False),
        ("Mozilla/5.0 (Windows) mirall/3.13.0stable-Win64 (build 20240516)", "mirall", False, True),
        ("Mozilla/5.0 (Android) Nextcloud-android/3.30.4", "Nextcloud-android", False, True),
        ("Debian APT-HTTP/1.3 (2.6.1)", "APT-HTTP", False, True),
        ("git/2.47.1", "git", False, True),
        ("Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)", "SemrushBot", True, False),
        ("Mozilla/5.0", "browser", True, False),
        ("", "-", False, False),
    ],
)
def test_what_an_agent_is(agent: str, family: str, browser: bool, software: bool) -> None:
    assert (family_of(agent), is_browser(agent), is_software(agent)) == (family, browser, software)


def test_shapes() -> None:
    assert path_shapes("/shop/item/1234") == ("/shop/item/1234", "/shop/item/*", "/shop/*/*")
    assert path_shapes("/") == ("/",)
    assert path_shapes("/ana/tool/commit/4f2a") == (
        "/ana/tool/commit/4f2a",
        "/ana/tool/commit/*",
        "/ana/*/*/*",
        "/*/*/commit/*",
    )
    assert path_shapes("/ana/tool/src/branch/main/a.c")[-1] == "/*/*/src/*/*/*"
    assert path_shapes("/ana/tool/-/blame/main/a.c")[-1] == "/*/*/-/blame/*/*"
    assert path_shapes("/ana/tool/issues")[-1] == "/*/*/issues"
    assert path_shapes("/t/some-words/17")[-1] == "/t/*/*"
    assert query_parts("s=abc&page=2") == ("s=", "s=abc", "page=", "page=2", "=")
    assert (
        agent_tokens("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")[1] == "Googlebot/2.1"
    )


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50), st.integers(0, 50), st.text(max_size=20), st.text(max_size=20), st.text(max_size=30)
        ),
        max_size=20,
    ),
    st.floats(0, 1000),
)
def test_any_requests_are_described_in_bounds(rows: list[tuple[int, int, str, str, str]], before_s: float) -> None:
    cells = [cell(now, before, path, query=query, agent=agent) for now, before, path, query, agent in rows]
    found = contrasts(cells, 60.0, before_s)
    assert all(0 <= one.share <= 1 and 0 <= one.purity <= 1 and len(one.features) <= 3 for one in found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert contrasts(list(reversed(cells)), 60.0, before_s) == found


@example(5e-324, 1.0, 0.0, 1.0)
@given(st.floats(0, 1e5), st.floats(0.1, 1e5), st.floats(0, 1e5), st.floats(0.1, 1e5))
def test_two_rates_are_never_less_likely_than_one(now: float, now_s: float, before: float, before_s: float) -> None:
    assert likelihood(now, now_s, before, before_s) >= -1e-6 * (now + before)
