"""The packed queue against a plain one."""

from __future__ import annotations

import random
import threading

import pytest

from tocsin.model import Decision, Evidence, Finding, Op
from tocsin.packed import CHUNK_ROWS, Packed


def op(number: int) -> Op:
    return Op("ban", f"10.0.{number >> 8 & 255}.{number & 255}", number or None, f"ban~{number}")


@pytest.mark.parametrize("seed", range(5))
def test_rows_come_out_as_they_went_in(seed: int) -> None:
    rng = random.Random(seed)
    queue, model, number = Packed(Op, 3000), list[Op](), 0
    for _ in range(200):
        for _ in range(rng.choice((1, 7, 300))):
            taken = queue.put(op(number))
            assert taken == (len(model) < 3000)
            model += [op(number)] if taken else []
            number += 1
        assert queue.full == (len(model) == 3000)
        about = rng.choice((1, 100, 2000))
        found = queue.take(about)
        assert found == model[: len(found)]
        assert min(about, len(model)) <= len(found) < about + CHUNK_ROWS
        del model[: len(found)]
        assert len(queue) == len(model)
    queue.clear()
    assert queue.take(10) == []
    assert queue.put(op(1))
    assert queue.take(1) == [op(1)]


def test_structs_of_every_shape_are_kept_whole() -> None:
    finding = Finding(
        "f", "r", "192.0.2.7", 1.5, 3, 600.0, (Evidence("log", 1, 2, "a"), Evidence("log", 2, 9, "b")), "p"
    )
    findings = Packed(Finding, 10)
    assert findings.put(finding)
    assert findings.take(1) == [finding]
    decisions = Packed(Decision, 10)
    decision = Decision("d", "lift", "192.0.2.0/24", 1.0, None, "", None, "operator", None, "ban", "note")
    assert decisions.put(decision)
    assert decisions.take(1) == [decision]


def test_text_that_no_utf8_can_hold_is_spelt_out_and_hurts_no_neighbour() -> None:
    queue = Packed(Finding, 10)
    for text in ("before", "\udcff\x00 agent", "after"):
        assert queue.put(Finding("f", "r", "192.0.2.7", 1.5, 3, 600.0, (Evidence("log", 1, 2, text),)))
    assert [found.evidence[0].text for found in queue.take(9)] == ["before", "\\udcff\x00 agent", "after"]


def test_one_thread_puts_while_another_takes() -> None:
    queue, found = Packed(Op, 1 << 20), list[Op]()
    count = 40_000

    def take() -> None:
        while len(found) < count:
            found.extend(queue.take(700))

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(count):
        assert queue.put(op(number))
    thread.join(60)
    assert found == [op(number) for number in range(count)]
