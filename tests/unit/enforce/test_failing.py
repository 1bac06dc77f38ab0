"""How often what fails is tried again, and how often it is said."""

from __future__ import annotations

from tocsin.enforce.failing import KEPT, SAY_AGAIN_S, Failing


def test_the_pauses_grow_and_it_is_said_once_an_hour() -> None:
    failing, now_s, waits, said = Failing(), 100.0, [], []
    while now_s < 100 + 2.5 * SAY_AGAIN_S:
        say, wait_s = failing.failed("ban 192.0.2.7", now_s)
        waits.append(wait_s)
        said += [now_s] if say else []
        now_s += wait_s
    assert waits[:11] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600]
    assert set(waits[11:]) == {600}
    assert len(said) == 3


def test_what_is_tried_for_anothers_sake_waits_no_longer() -> None:
    failing = Failing()
    assert failing.failed("ban 192.0.2.7", 0.0) == (True, 1.0)
    assert failing.failed("ban 192.0.2.7", 0.5) == (False, 0.5)
    assert failing.failed("ban 192.0.2.8", 0.5) == (True, 1.0)
    failing.succeeded("ban 192.0.2.7")
    assert failing.failed("ban 192.0.2.7", 0.6) == (True, 1.0)


def test_what_is_kept_is_bounded() -> None:
    failing = Failing()
    said = [failing.failed(f"ban {number}", 0.0)[0] for number in range(KEPT + 100)]
    assert said.count(True) == KEPT + 1, "the rest counts as one"
    failing.clear()
    assert not failing
