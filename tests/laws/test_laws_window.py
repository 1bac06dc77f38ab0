"""Law 4 and 5 at their root: windows are exact over event time, whatever the order within the lateness, and bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.detect.window import CROSSED, CountWindow, DistinctWindow, Pool

WITHIN_S, LATENESS_S = 60.0, 300.0
TIMES = st.lists(st.integers(0, 400).map(float), min_size=1, max_size=40)


def holds(times: list[float], limit: int) -> bool:
    """The definition: some span of WITHIN_S, both ends included, holds `limit` events."""
    return any(sum(1 for t in times if start <= t <= start + WITHIN_S) >= limit for start in times)


def holds_distinct(events: list[tuple[float, str]], limit: int) -> bool:
    return any(len({v for t, v in events if start <= t <= start + WITHIN_S}) >= limit for start, _ in events)


@st.composite
def late_orders(draw: st.DrawFn, events: st.SearchStrategy[list[float]] = TIMES) -> list[float]:
    """Times in an order in which none is more than the lateness behind the newest before it."""
    times = draw(events)
    shifted = sorted((t + draw(st.floats(0, LATENESS_S)), t) for t in times)
    newest, order = float("-inf"), []
    for _, t in shifted:
        newest = max(newest, t)
        if t >= newest - LATENESS_S:
            order.append(t)
    return order


@given(late_orders(), st.integers(2, 6))
def test_count_crosses_exactly_when_a_window_holds_the_limit(order: list[float], limit: int) -> None:
    """At each event: crossed if and only if the events so far hold `limit` in one window (first crossing)."""
    window = CountWindow(Pool(1000), limit, WITHIN_S, LATENESS_S)
    for i, ts in enumerate(order):
        window.rotate(max(order[: i + 1]))
        crossed = window.add("k", ts) == CROSSED
        assert crossed == holds(order[: i + 1], limit)
        if crossed:
            return


@given(late_orders(), st.integers(2, 5), st.integers(1, 7))
def test_distinct_crosses_exactly(order: list[float], limit: int, kinds: int) -> None:
    """The same for distinct values, with the thinning of repeats at work."""
    window = DistinctWindow(Pool(1000), limit, WITHIN_S, LATENESS_S)
    events = [(ts, str(int(ts * 7919 + i) % kinds)) for i, ts in enumerate(order)]
    for i, (ts, value) in enumerate(events):
        window.rotate(max(order[: i + 1]))
        crossed = window.add("k", ts, value) == CROSSED
        assert crossed == holds_distinct(events[: i + 1], limit)
        if crossed:
            return


@given(st.lists(st.integers(0, 500).map(float), min_size=2, max_size=200).map(sorted), st.integers(2, 4))
def test_a_quiet_key_is_not_forgotten_too_early(times: list[float], limit: int) -> None:
    """Generations end while a key waits for its next event; what can still matter survives them."""
    window = CountWindow(Pool(1000), limit, WITHIN_S, LATENESS_S)
    seen: list[float] = []
    for i, ts in enumerate(times):
        window.rotate(ts)
        window.add(f"other{i}", ts)
        seen.append(ts)
        if window.add("k", ts) == CROSSED:
            assert holds(seen, limit)
            return
        assert not holds(seen, limit)


def test_state_is_bounded_and_eviction_counted() -> None:
    """An attacker who changes address with each request: the last `capacity` keys are exact, the rest is counted."""
    pool = Pool(1000)
    window = CountWindow(pool, 3, WITHIN_S, LATENESS_S)
    for i in range(10_000):
        assert window.add(f"k{i}", 1.0) != CROSSED
        assert pool.tracked <= 2 * pool.capacity + 1
    assert pool.tracked + pool.evicted == 10_000
    assert window.add("k9500", 2.0) != CROSSED
    assert window.add("k9500", 3.0) == CROSSED


@given(late_orders(), st.integers(2, 6))
def test_a_restart_between_any_two_events_changes_nothing(order: list[float], limit: int) -> None:
    """Dump and load is the identity."""
    straight, restarted = (CountWindow(Pool(100), limit, WITHIN_S, LATENESS_S) for _ in range(2))
    for ts in order:
        fresh = CountWindow(Pool(100), limit, WITHIN_S, LATENESS_S)
        fresh.load(*restarted.dump())
        restarted = fresh
        assert straight.add("k", ts) == restarted.add("k", ts)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9000).map(float)), min_size=1, max_size=60))
def test_who_is_watched_is_known_by_the_window_and_no_longer(events: list[tuple[int, float]]) -> None:
    """Of those who are banned, or silent for long, nothing is left: a million of them would take 80 MB."""
    window = CountWindow(Pool(6), 3, WITHIN_S, LATENESS_S)
    window.look_out(lambda key: int(key) % 2 == 0)
    for number, ts in sorted(events, key=lambda event: event[1]):
        window.rotate(ts)
        window.add(str(number), ts)
        assert window.watched == {key for key in {**window.young, **window.old} if int(key) % 2 == 0}


@pytest.mark.parametrize("watch", [None, lambda _key: False])
def test_where_all_are_watched_no_list_of_them_is_kept(watch: Callable[[str], bool] | None) -> None:
    window = CountWindow(Pool(1000), 3, WITHIN_S, LATENESS_S)
    window.look_out(watch)
    window.add("k", 1.0)
    assert (window.all_watched, window.watched) == (watch is None, set())
