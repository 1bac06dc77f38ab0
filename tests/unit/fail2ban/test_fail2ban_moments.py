"""When an action's commands are run, and in which order: started, repaired, stopped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tocsin.fail2ban.actions.commands import commands_of
from tocsin.fail2ban.actions.moments import Action, Ended, Step, Steps
from tocsin.fail2ban.actions.queues import PATIENCE_S, Queues
from tocsin.fail2ban.actions.tickets import Ticket, family_of
from tocsin.fail2ban.model import ActionSpec

V4 = Ticket("192.0.2.7", "192.0.2.7")
V6 = Ticket("2001:db8::1", "2001:db8::1")
ALL = {moment: moment.removeprefix("action") for moment in ("actionstart", "actionstop", "actionban", "actionunban")}


def action_of(**options: str) -> Action:
    return Action(commands_of(ActionSpec("a", "a", options)))


def played(steps: Steps, answer: Callable[[Step], Ended] = lambda _step: "ok") -> tuple[list[str], bool]:
    """What was run, with the family where it is known, and the result."""
    ran = []
    try:
        step = next(steps)
        while True:
            family = family_of(step.ticket)
            ran.append(step.moment.removeprefix("action") + (f" {family}" if family else ""))
            step = steps.send(answer(step))
    except StopIteration as end:
        return ran, end.value


def test_a_life() -> None:
    action = action_of(**ALL)
    assert played(action.start()) == (["start"], True)
    assert played(action.ban(V4)) == (["ban inet4"], True)
    assert played(action.unban(V4)) == (["unban inet4"], True)
    assert played(action.stop()) == (["stop"], True)
    assert played(action.stop()) == ([], True)


def test_who_was_never_banned_is_not_unbanned() -> None:
    action = action_of(**ALL)
    played(action.start())
    assert played(action.unban(V4)) == ([], True)
    assert played(action.unban(Ticket("192.0.2.7", "192.0.2.7", restored=True))) == (["unban inet4"], True)


def test_a_family_is_started_with_its_first_ban() -> None:
    action = action_of(**ALL | {"x": "4", "x?family=inet6": "6", "actionstart": "start <x>", "actionstop": "stop <x>"})
    assert played(action.start()) == ([], True)
    assert played(action.ban(V6)) == (["start inet6", "ban inet6"], True)
    assert played(action.ban(V6)) == (["ban inet6"], True)
    assert played(action.ban(V4)) == (["start inet4", "ban inet4"], True)
    assert played(action.stop()) == (["stop inet6", "stop inet4"], True)


def test_a_start_that_is_the_same_for_both_families_runs_once() -> None:
    action = action_of(**ALL, **{"x?family=inet6": "6"})
    assert played(action.ban(V4)) == (["start inet4", "ban inet4"], True)
    assert played(action.ban(V6)) == (["ban inet6"], True)
    assert played(action.stop()) == (["stop inet6"], True)


def test_a_start_that_fails_is_tried_again_with_the_next_ban() -> None:
    action = action_of(**ALL, actionstart_on_demand="true")
    assert played(action.ban(V4), lambda _step: "failed") == (["start"], False)
    assert played(action.ban(V4)) == (["start", "ban inet4"], True)


def test_norestored() -> None:
    again = Ticket("192.0.2.7", "192.0.2.7", restored=True)
    assert played(action_of(**ALL, norestored="1").ban(again)) == ([], True)
    assert played(action_of(**ALL).ban(again)) == (["ban inet4"], True)


def failing(*which: str) -> Callable[[Step], Ended]:
    """The first so many of these fail, in this order; all else is well."""
    left = list(which)

    def answer(step: Step) -> Ended:
        if left and step.moment == left[0]:
            left.pop(0)
            return "failed"
        return "ok"

    return answer


def test_a_failure_is_tried_once_more() -> None:
    action = action_of(**ALL)
    assert played(action.ban(V4), failing("actionban")) == (["ban inet4", "ban inet4"], True)
    assert played(action.ban(V4), failing("actionban", "actionban")) == (["ban inet4", "ban inet4"], False)


@pytest.mark.parametrize("ended", ["timeout", "refused"])
def test_what_hung_or_may_not_be_run_is_not_tried_again(ended: Ended) -> None:
    assert played(action_of(**ALL, actioncheck="check").ban(V4), lambda _step: ended) == (["ban inet4"], False)


def test_check_and_start_anew() -> None:
    action = action_of(**ALL, actioncheck="check")
    played(action.start())
    ran = played(action.ban(V4), failing("actionban", "actioncheck"))
    assert ran == (["ban inet4", "check", "stop", "start", "check", "ban inet4"], True)
    assert action.lost == 1


def test_check_and_repair() -> None:
    action = action_of(**ALL, actioncheck="check", actionrepair="repair")
    ran = played(action.ban(V4), failing("actionban", "actioncheck"))
    assert ran == (["ban inet4", "check", "repair", "check", "ban inet4"], True)
    assert action.lost == 0


def test_an_unban_repairs_only_where_it_says_so() -> None:
    restored = Ticket("192.0.2.7", "192.0.2.7", restored=True)
    bad = ("actionunban", "actioncheck")
    action = action_of(**ALL, actioncheck="check", actionrepair="repair")
    assert played(action.unban(restored), failing(*bad)) == (["unban inet4", "check"], False)
    action = action_of(**ALL, actioncheck="check", actionrepair="repair", actionrepair_on_unban="true")
    assert played(action.unban(restored), failing(*bad))[0][-1] == "unban inet4"


def test_flush_reload_prolong_and_reban() -> None:
    action = action_of(**ALL, actionflush="flush", actionreload="reload", actionprolong="prolong")
    played(action.start())
    assert played(action.flush()) == ([], True)
    played(action.ban(V4))
    assert played(action.flush()) == (["flush"], True)
    assert played(action.reload()) == (["reload"], True)
    assert played(action.ban(V4, "actionprolong")) == (["prolong inet4"], True)
    assert played(action.ban(V4, "actionreban")) == (["ban inet4"], True)
    assert action.forgets


@pytest.mark.parametrize(
    ("text", "expected_s"), [("5", 5.0), ("2m", 120.0), ("", 60.0), ("soon", 60.0), ("9999d", 3600.0)]
)
def test_time_outs(text: str, expected_s: float) -> None:
    commands = commands_of(ActionSpec("a", "a", {"actionban": "x", "timeout": text}))
    assert commands.timeout_s == expected_s
    assert bool(commands.troubles) == (text == "soon")


def test_lanes_are_served_in_turn_and_in_order() -> None:
    queues: Queues[str] = Queues(10, 10, at_once=1)
    for item in ("a1", "a2", "b1", "a3", "b2"):
        assert queues.put(item[0], item)
    served: list[str] = []
    while (running := queues.next(0.0)) is not None:
        assert queues.next(0.0) is None
        served.append(running)
        queues.finished(running[0])
    assert served == ["a1", "b1", "a2", "b2", "a3"]
    assert queues.idle


def test_a_lane_runs_one_thing_at_a_time() -> None:
    queues: Queues[str] = Queues(10, 10)
    queues.put("a", "a1")
    queues.put("a", "a2")
    assert queues.next(0.0) == "a1"
    assert queues.next(0.0) is None
    queues.finished("a")
    assert queues.next(0.0) == "a2"


def test_what_hangs_stands_in_nobodys_way() -> None:
    queues: Queues[int] = Queues(1, 1, at_once=2, at_once_max=4)
    for lane in range(6):
        queues.put(str(lane), lane)
    assert [queues.next(0.0), queues.next(0.0), queues.next(0.0)] == [0, 1, None]
    assert queues.wait_s(PATIENCE_S / 2) == PATIENCE_S / 2
    assert [queues.next(PATIENCE_S), queues.next(PATIENCE_S), queues.next(PATIENCE_S)] == [2, 3, None]
    assert queues.wait_s(3 * PATIENCE_S) is None  # as many as may hang at all: only an end makes room
    assert queues.next(3 * PATIENCE_S) is None
    queues.finished("0")
    assert queues.next(3 * PATIENCE_S) == 4


def test_a_full_lane_drops_and_counts_but_undoing_has_more_room() -> None:
    queues: Queues[int] = Queues(2, 4)
    assert [queues.put("a", n) for n in range(3)] == [True, True, False]
    assert [queues.put("a", n, late=True) for n in range(3)] == [True, True, False]
    lane = queues.lane("a")
    assert (lane.dropped, lane.dropped_late, lane.done) == (1, 1, 2)
    queues.clear("a")
    assert queues.idle
    assert lane.dropped == 5
