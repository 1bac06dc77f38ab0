"""Nothing undone: whatever others do to the ruleset or to guard's processes, bans are back, and the ledger has them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from enforcing import ATTACKER4, NEIGHBOUR4, SERVER4, Site
from guarding import Guard, guarding, request_line
from netns import echo_server, wait_until

from tocsin.ledger.reader import Reader

pytestmark = pytest.mark.root
OTHERS = ("198.51.100.7", "2001:db8:bad:1::/64")


@pytest.fixture
def guard(site: Site) -> Iterator[Guard]:
    """A guard that has banned three, each written to the ledger."""
    echo_server(site.server)
    with guarding(site.server) as one:
        one.write(*(request_line(who) for who in (ATTACKER4, OTHERS[0], "2001:db8:bad:1::1") for _ in range(3)))
        one.wait_banned(ATTACKER4, *OTHERS)
        wait_until(lambda: in_ledger(one) == {ATTACKER4, *OTHERS}, "bans in the ledger")
        yield one


def in_ledger(guard: Guard) -> set[str]:
    """The bans in force as the file has them, whether guard runs or not."""
    with Reader(guard.state / "ledger.db") as ledger:
        return {ban.subject for ban in ledger.bans(time.time())}


def assert_as_before(site: Site, guard: Guard) -> None:
    """All three are banned again, in kernel and ledger; the neighbour is not, and who attacks now is banned too."""
    guard.wait_banned(ATTACKER4, *OTHERS)
    assert in_ledger(guard) == {ATTACKER4, *OTHERS}
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    assert site.client.connect(NEIGHBOUR4, SERVER4) == "answered"
    guard.wait_ready()
    guard.write(*3 * [request_line(NEIGHBOUR4)])
    guard.wait_banned(NEIGHBOUR4)
    assert site.client.connect(NEIGHBOUR4, SERVER4) == "no answer"


@pytest.mark.parametrize(
    "command",
    [
        ("flush", "ruleset"),
        ("delete", "table", "inet", "tocsin"),
        ("flush", "table", "inet", "tocsin"),
        ("flush", "set", "inet", "tocsin", "host4"),
        ("delete", "element", "inet", "tocsin", "host4", f"{{ {ATTACKER4} }}"),
    ],
    ids=" ".join,
)
def test_what_others_do_to_the_ruleset(site: Site, guard: Guard, command: tuple[str, ...]) -> None:
    site.server.run("nft", *command)
    wait_until(lambda: "changed by somebody else" in guard.said_text(), "guard noticed")
    assert_as_before(site, guard)


@pytest.mark.parametrize("names", [("guard",), ("enforce",), ("guard", "enforce")], ids="+".join)
def test_a_killed_process_is_started_again(site: Site, guard: Guard, names: tuple[str, ...]) -> None:
    before = guard.pids()
    guard.kill(*names)
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer", "bans outlive us in the kernel"
    assert in_ledger(guard) == {ATTACKER4, *OTHERS}
    site.server.run("nft", "flush", "ruleset")
    wait_until(lambda: "starting watcher and enforcer again" in guard.said_text(), "the supervisor noticed")
    assert_as_before(site, guard)
    assert guard.pids()["supervise"] == before["supervise"]
    assert guard.pids()["guard"] != before["guard"]


@pytest.mark.parametrize("names", [("supervise",), ()], ids=["supervisor", "all at once"])
def test_killed_with_its_supervisor_and_started_anew(site: Site, guard: Guard, names: tuple[str, ...]) -> None:
    pids = guard.pids()
    guard.kill(*names)
    wait_until(lambda: not any(_lives(pids[name]) for name in ("guard", "enforce")), "no child outlives the supervisor")
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    assert in_ledger(guard) == {ATTACKER4, *OTHERS}
    site.server.run("nft", "flush", "ruleset")
    guard.start()
    assert_as_before(site, guard)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123  one line of /proc
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
