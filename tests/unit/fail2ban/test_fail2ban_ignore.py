"""Who is never banned, and what becomes of a failure until `ignorecommand` has answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tocsin.fail2ban.actions.ignore import ASIDE_MAX, WAIT_S, IgnoreCache, IgnoreList, Ignoring, network_of
from tocsin.fail2ban.actions.ignore_sources import NAMES_AGAIN_S, IgnoreSources, read_entries
from tocsin.fail2ban.actions.tickets import Ticket
from tocsin.fail2ban.model import Failure, FilterSpec, Jail


@pytest.mark.parametrize(
    ("entry", "covered", "free"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
        ("192.0.2.9/24", "192.0.2.1", "192.0.3.0"),
        ("10.0.0.0/255.0.0.0", "10.255.0.1", "11.0.0.1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
        ("2001:db8::/ffff:ffff::", "2001:db8:ffff::1", "2001:db9::1"),
        ("[2001:db8::1]", "2001:db8::1", "2001:db8::2"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
        ("127.0.0.1/8", "127.1.2.3", "128.0.0.1"),
        ("::1", "::1", "0.0.0.1"),
    ],
)
def test_addresses_and_networks(entry: str, covered: str, free: str) -> None:
    one = IgnoreList([entry])
    assert one.covers(covered) == entry
    assert one.covers(free) is None
    assert one.mistakes == one.names == ()


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/99", "2001:db8::/ff00:ff00::", "1.2.3", "1.2.3.400", "a b", "-x", "x_y!", "::1/129"]
)
def test_what_is_nothing_is_named(entry: str) -> None:
    assert network_of(entry) is None
    assert IgnoreList([entry]).mistakes == (entry,)


def test_a_name_covers_what_it_was_last_said_to_be() -> None:
    one = IgnoreList(["home.example.org", "198.51.100.1"])
    assert one.names == ("home.example.org",)
    assert one.covers("192.0.2.7") is None
    assert one.set_name("home.example.org", ["192.0.2.7", "2001:db8::7"])
    assert not one.set_name("home.example.org", ["192.0.2.7", "2001:db8::7"])
    assert one.covers("192.0.2.7") == one.covers("2001:db8::7") == "home.example.org"
    assert not one.set_name("home.example.org", None)
    assert one.covers("192.0.2.7") == "home.example.org"
    assert one.set_name("home.example.org", ["192.0.2.8"])
    assert one.covers("192.0.2.7") is None
    assert one.covers("198.51.100.1") == "198.51.100.1"


def test_a_name_covers_itself_where_the_log_has_names() -> None:
    assert IgnoreList(["home.example.org"]).covers(None, "home.example.org") == "home.example.org"
    assert IgnoreList(["home.example.org"]).covers(None, "away.example.org") is None


def jail_with(**options: str) -> Jail:
    return Jail(
        "j", FilterSpec("f"), ignoreip=("192.0.2.1", "nonsense!"), ignorecommand=options.get("command", ""),
        ignorecache=options.get("cache", ""), ignoreself=True,
    )  # fmt: skip


def failure_of(ip: str, user: str = "root", ts: float = 0.0) -> Failure:
    return Failure(ts, ip, ip, fields={"user": user})


class Asked:
    """Takes questions; says no more once it has `room` of them."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.tickets: list[Ticket] = []
        self.room = room

    def __call__(self, jail: str, ticket: Ticket) -> int | None:
        assert jail == "j"
        if len(self.tickets) >= self.room:
            return None
        self.tickets.append(ticket)
        return len(self.tickets)


def ignoring(asked: Asked, own: Sequence[str] = (), **options: str) -> Ignoring[int]:
    return Ignoring(jail_with(**options), asked, own.__contains__)


def test_without_a_command_all_is_known_at_once() -> None:
    asked = Asked()
    one = ignoring(asked, own=["203.0.113.1"])
    assert one.judge(failure_of("192.0.2.1"), 0, 0.0) == "ignored"
    assert one.judge(failure_of("203.0.113.1"), 1, 0.0) == "ignored"
    assert one.judge(failure_of("192.0.2.7"), 2, 0.0) == "counts"
    assert not asked.tickets
    assert [remark.text for remark in one.remarks if "nonsense!" in remark.text]


def test_a_failure_waits_for_the_answer_and_counts_in_order() -> None:
    asked = Asked()
    one = ignoring(asked, command="is-friend <ip>")
    assert [one.judge(failure_of("192.0.2.7"), n, 0.0) for n in range(3)] == ["waits"] * 3
    assert one.judge(failure_of("192.0.2.8"), 3, 0.0) == "waits"
    assert [ticket.ip for ticket in asked.tickets] == ["192.0.2.7", "192.0.2.8"]
    assert one.waiting() == (0, 1, 2, 3)
    assert one.answered(1, ignore=False, now_s=1.0) == [0, 1, 2]
    assert one.answered(2, ignore=True, now_s=1.0) == []
    assert one.judge(failure_of("192.0.2.7"), 4, 2.0) == "counts"
    assert one.judge(failure_of("192.0.2.8"), 5, 2.0) == "ignored"
    assert one.waiting() == ()
    assert one.judge(failure_of("192.0.2.8"), 6, 62.0) == "waits"


def test_a_command_that_fails_spares_nobody() -> None:
    one = ignoring(Asked(), command="broken <ip>")
    one.judge(failure_of("192.0.2.7"), 0, 0.0)
    assert one.answered(1, ignore=None, now_s=1.0) == [0]


def test_who_waits_too_long_counts_and_a_late_answer_is_harmless() -> None:
    one = ignoring(Asked(), command="slow <ip>")
    one.judge(failure_of("192.0.2.7"), 0, 0.0)
    assert one.next_due_s() == WAIT_S
    assert one.expire(WAIT_S - 0.1) == []
    assert one.expire(WAIT_S) == [0]
    assert one.next_due_s() is None
    assert one.answered(1, ignore=True, now_s=WAIT_S + 1) == []
    assert one.judge(failure_of("192.0.2.7"), 1, WAIT_S + 1) == "waits"


def test_a_flood_cannot_buy_time() -> None:
    one = ignoring(Asked(room=ASIDE_MAX * 2), command="slow <ip>")
    verdicts = [one.judge(failure_of(f"10.0.{n >> 8}.{n & 255}"), n, 0.0) for n in range(ASIDE_MAX + 10)]
    assert verdicts == ["waits"] * ASIDE_MAX + ["counts"] * 10
    assert ignoring(Asked(room=0), command="x <ip>").judge(failure_of("192.0.2.7"), 0, 0.0) == "counts"


def test_the_command_is_asked_anew_for_other_values() -> None:
    asked = Asked()
    one = ignoring(asked, command='test "<F-USER>" = friend')
    one.judge(failure_of("192.0.2.7", "root"), 0, 0.0)
    one.judge(failure_of("192.0.2.7", "friend"), 1, 0.0)
    one.judge(failure_of("192.0.2.7", "root"), 2, 0.0)
    assert len(asked.tickets) == 2


def test_ignorecache_says_by_what_and_how_long() -> None:
    asked = Asked()
    one = ignoring(asked, command="x <ip> <F-USER>", cache='key="<F-USER>@<ip-host>", max-count=2, max-time=5m')
    for n, user in enumerate(("a", "b", "c")):
        one.judge(failure_of("192.0.2.7", user), n, 0.0)
        one.answered(n + 1, ignore=True, now_s=0.0)
    assert one.judge(failure_of("192.0.2.7", "c"), 3, 299.0) == "ignored"
    assert one.judge(failure_of("192.0.2.7", "a"), 4, 299.0) == "waits"
    assert one.judge(failure_of("192.0.2.7", "c"), 5, 300.0) == "waits"


def test_two_values_cannot_be_mistaken_for_one() -> None:
    cache = IgnoreCache("<F-USER>|<F-X>", 10, 60.0)
    keys = {
        cache.key_of(Ticket("k", fields=fields), "j")
        for fields in ({"user": "a|b", "x": "c"}, {"user": "a", "x": "b|c"})
    }
    assert len(keys) == 2


@pytest.mark.parametrize(
    "text", ["max-count=5", 'key="<ip>", max-count=many', 'key="<ip>", size=3', "what?", 'key="<ip>", max-time=soon']
)
def test_an_ignorecache_that_is_wrong_is_named_and_replaced(text: str) -> None:
    with pytest.raises(ValueError, match=r"ignorecache|expected"):
        IgnoreCache.parse(text, "x <ip>")
    one = ignoring(Asked(), command="x <ip>", cache=text)
    assert any(remark.severity == "warning" and "the command's own values" in remark.text for remark in one.remarks)
    assert one.judge(failure_of("192.0.2.7"), 0, 0.0) == "waits"


def test_a_file_of_addresses_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "friends"
    one = IgnoreList([f"file:{path}"])
    sources = IgnoreSources([one])
    assert "cannot be used" in sources.refresh(None, 0.0)[0]
    assert sources.refresh(None, 5.0) == ()  # said once
    path.write_text("# friends\n192.0.2.7, 198.51.100.0/24 ; and\n2001:db8::/32 nonsense\n")
    assert sources.refresh(None, 10.0) == ()
    assert one.covers("192.0.2.7") == one.covers("198.51.100.9") == one.covers("2001:db8::1") == f"file:{path}"
    path.write_text("192.0.2.8\n")
    sources.refresh(None, 15.0)
    assert one.covers("192.0.2.7") is None
    assert one.covers("192.0.2.8")
    path.unlink()
    assert "what it held before still holds" in sources.refresh(None, 20.0)[0]
    assert one.covers("192.0.2.8")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"192.0.2.7\n" * 500_000)
    with pytest.raises(ValueError, match="larger than"):
        read_entries(path)


def test_names_without_an_answer_are_said_once() -> None:
    one = IgnoreList(["home.example.org"])
    sources = IgnoreSources([one])
    sources.refresh(None, 0.0)
    assert sources.due_s == NAMES_AGAIN_S
    assert "cannot be looked up" in sources.resolved("home.example.org", None)
    assert sources.resolved("home.example.org", None) == ""
    assert sources.resolved("home.example.org", ["192.0.2.7"]) == ""
    assert one.covers("192.0.2.7") == "home.example.org"
    assert IgnoreSources([IgnoreList(["192.0.2.7"])]).due_s == float("inf")


def test_a_command_that_would_run_a_log_is_named() -> None:
    risky = ignoring(Asked(), command='sh -c "is-friend <F-USER>"')
    assert any("ignorecommand is not run: sh" in remark.text for remark in risky.remarks)
    assert not any("is not run" in remark.text for remark in ignoring(Asked(), command='is-friend "<F-USER>"').remarks)
