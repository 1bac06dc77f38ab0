"""Nothing undone: whoever touches the table, bans are back, and one bad Op never keeps out the others."""

from __future__ import annotations

import time

import pytest
from enforcing import ATTACKER4, SERVER4, Running, Site, enforcing, rss_kib
from netns import DEADLINE_S, echo_server

from tocsin.model import Op

pytestmark = pytest.mark.root


def many(count: int, now_ts: float) -> dict[str, float | None]:
    """Distinct addresses outside the test's own networks, with ends an hour and more away."""
    return {f"{100 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.1": now_ts + 3600 + n % 1000 for n in range(count)}


@pytest.mark.parametrize("destruction", ["flush ruleset", "delete table inet tocsin", "flush set inet tocsin host4"])
def test_what_others_destroy_is_told_at_once_and_comes_back(site: Site, running: Running, destruction: str) -> None:
    """`Changed` arrives by itself; one reconcile later the packets die again."""
    echo_server(site.server)
    desired: dict[str, float | None] = {ATTACKER4: time.time() + 600, "203.0.113.0/24": None, "2001:db8:9::/64": None}
    running.reconcile(desired)
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    site.server.run("nft", destruction)
    running.changed()
    assert ATTACKER4 not in running.read().end_ts
    restored = running.reconcile(desired)
    assert ATTACKER4 in {op.subject for op in restored}
    assert set(running.read().end_ts) == set(desired)
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    assert running.reconcile(desired) == []


@pytest.mark.parametrize(
    "destruction", ["flush chain inet tocsin prerouting", "insert rule inet tocsin prerouting accept"]
)
def test_rules_that_others_change_are_repaired_without_losing_a_ban(
    site: Site, running: Running, destruction: str
) -> None:
    """The enforcer repairs the chain by itself, in one transaction, before it tells."""
    echo_server(site.server)
    assert running.ban(ATTACKER4).ok
    site.server.run("nft", destruction)
    running.changed()
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    assert set(running.read().end_ts) == {ATTACKER4}


def test_changes_of_other_tables_and_own_changes_are_not_told(site: Site, running: Running) -> None:
    """Only what others do to our table counts: a stranger's ban list must not make us read ours."""
    site.server.run("nft", "-f", "-", stdin="add table inet other\nadd set inet other s { type ipv4_addr; }")
    site.server.run("nft", "add element inet other s { 192.0.2.1 }")
    assert running.ban(ATTACKER4).ok
    assert running.unban(ATTACKER4).ok
    assert running.probe().ok
    site.server.run("nft", "add element inet tocsin host4 { 192.0.2.77 }")
    assert running.changed().reason == "elements added"
    assert running.said == []


def test_a_ban_that_ends_by_itself_is_no_change(site: Site, running: Running) -> None:
    """Thousands of bans end every day; nobody has to look."""
    del site
    assert running.ban(ATTACKER4, 1).ok
    deadline_s = time.monotonic() + DEADLINE_S
    while running.read().end_ts and time.monotonic() < deadline_s:
        assert running.said == []
    assert running.read().end_ts == {}
    assert running.said == []


def test_bans_outlive_the_enforcer_and_the_next_one_finds_them(site: Site) -> None:
    """A crash loses nothing: the table stays, the next enforcer keeps it and reads it."""
    echo_server(site.server)
    with enforcing(site.server) as first:
        assert first.ban(ATTACKER4).ok
        assert first.ban("203.0.113.0/24", None).ok
    with enforcing(site.server) as second:
        assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
        in_force = second.read()
        assert set(in_force.end_ts) == {ATTACKER4, "203.0.113.0/24"}
        assert in_force.end_ts["203.0.113.0/24"] is None


def test_a_table_of_another_shape_is_replaced(site: Site) -> None:
    """What an older version left behind gives way; reconcile puts the bans in again."""
    site.server.run("nft", "add table inet tocsin\nadd set inet tocsin host4 { type ipv6_addr; }")
    with enforcing(site.server) as running:
        assert running.ban(ATTACKER4).ok
        assert set(running.read().end_ts) == {ATTACKER4}


def test_one_refused_op_keeps_out_no_other_and_each_has_an_honest_receipt(site: Site, running: Running) -> None:
    """Refused by us, refused by the kernel (overlapping prefixes), and all the others in force."""
    assert running.ban("203.0.113.0/24").ok
    good = [Op("ban", f"198.51.100.{last}", 60, f"g{last}") for last in range(100)]
    prefixes = [Op("ban", f"198.18.{third}.0/24", 60) for third in range(100)]
    bad = [
        Op("ban", "203.0.113.128/25", 60, "overlap"),
        Op("ban", "localhost", 60, "name"),
        Op("ban", "127.0.0.1", 60, "loopback"),
        Op("ban", SERVER4, 60, "own"),
        Op("ban", "10.66.0.200", 60, "allowed"),
        Op("ban", "2001:db8:c::/64", 60, "allowed6"),
        Op("ban", "2001:db8::/32", 60, "holds allowed"),
        Op("ban", "10.0.0.0/8", 60, "too wide"),
        Op("ban", "192.0.2.1", 0, "no time"),
        Op("ban", "192.0.2.7/32", 60, "not canonical"),
    ]
    ops = [*good[:50], *bad[:5], *prefixes, *good[50:], *bad[5:]]
    receipts = running.apply(ops)
    assert [receipt.subject for receipt in receipts] == [op.subject for op in ops]
    assert [receipt.decision for receipt in receipts] == [op.decision for op in ops]
    assert {receipt.subject for receipt in receipts if not receipt.ok} == {op.subject for op in bad}
    assert all(bool(receipt.error) != receipt.ok for receipt in receipts)
    in_force = set(running.read().end_ts)
    assert in_force == {"203.0.113.0/24"} | {op.subject for op in [*good, *prefixes]}
    # One bad among many is found by halving, in the sets that look nothing up first as well.
    more = [Op("ban", f"198.19.{third}.0/24", 60) for third in range(150)]
    results = running.apply([*more, Op("ban", "198.18.7.0/25", 60)])
    assert [receipt.ok for receipt in results] == [True] * 150 + [False]
    del site


def test_the_last_op_of_a_subject_counts(site: Site, running: Running) -> None:
    """Ban, unban and ban again in one message leave what was said last; unbanning what is not there is fine."""
    del site
    ops = [Op("ban", ATTACKER4, 60), Op("unban", ATTACKER4), Op("unban", "192.0.2.1"), Op("ban", "192.0.2.2", 60)]
    assert all(receipt.ok for receipt in running.apply(ops))
    assert set(running.read().end_ts) == {"192.0.2.2"}
    assert all(receipt.ok for receipt in running.apply([Op("unban", "192.0.2.2"), Op("ban", "192.0.2.2", 60)] * 60))
    assert set(running.read().end_ts) == {"192.0.2.2"}


def test_a_wide_prefix_gives_way_to_a_narrower_one_in_one_message(site: Site, running: Running) -> None:
    """Unbans go first, so that no overlap stands in the way."""
    del site
    assert running.ban("203.0.113.0/24").ok
    assert all(one.ok for one in running.apply([Op("ban", "203.0.113.64/26", 60), Op("unban", "203.0.113.0/24")]))
    assert set(running.read().end_ts) == {"203.0.113.64/26"}


def test_a_ban_asked_for_again_keeps_its_counter(site: Site, running: Running) -> None:
    """What is in force as wanted stays untouched, one by one and in a crowd; a longer ban is renewed."""
    echo_server(site.server)
    assert running.ban(ATTACKER4).ok
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    stopped = running.read().stopped[ATTACKER4]
    assert running.ban(ATTACKER4).ok
    crowd = [Op("ban", f"198.51.100.{last}", 600) for last in range(100)]
    assert all(receipt.ok for receipt in running.apply([*crowd, Op("ban", ATTACKER4, 600)]))
    after = running.read()
    assert after.stopped[ATTACKER4] >= stopped
    assert len(after.end_ts) == 101
    assert running.ban(ATTACKER4, 1200).ok
    prolonged = running.read().end_ts[ATTACKER4]
    assert prolonged is not None
    assert prolonged > time.time() + 1100


@pytest.mark.parametrize("prefix", ["198.18.", "2001:db8:1:"])
def test_a_crowd_is_judged_one_by_one(running: Running, prefix: str) -> None:
    """Many are written unseen: those among them that are in force are found all the same, and so are the missing."""

    def subject(number: int) -> str:
        return f"{prefix}{number >> 8}.{number & 255}" if "." in prefix else f"{prefix}{number + 1:x}::/64"

    assert all(one.ok for one in running.apply([Op("ban", subject(number), 60) for number in range(0, 3000, 500)]))
    assert running.ban(subject(7), None).ok
    crowd = [Op("ban", subject(number), 600) for number in range(3000)]
    assert all(one.ok for one in running.apply(crowd))
    ends = running.read().end_ts
    assert set(ends) == {op.subject for op in crowd}
    assert all(end_ts is not None and abs(end_ts - time.time() - 600) < 30 for end_ts in ends.values())
    gone = [Op("unban", subject(number)) for number in range(1000, 4000)]
    assert all(one.ok for one in running.apply(gone)), "those that are not in are out already"
    assert set(running.read().end_ts) == {subject(number) for number in range(1000)}


def test_counters_of_some_subjects_are_read_alone(site: Site, running: Running) -> None:
    """Look answers like Read, for what was asked, and leaves out what is not in force."""
    echo_server(site.server)
    for subject in (ATTACKER4, "192.0.2.1", "203.0.113.0/24", "2001:db8:9::/64", "2001:db8:7::1"):
        assert running.ban(subject).ok
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    asked = [ATTACKER4, "203.0.113.0/24", "2001:db8:9::/64", "2001:db8:7::1", "192.0.2.200"]
    found = running.look(asked)
    assert set(found.end_ts) == set(asked[:-1])
    assert set(found.stopped) == {ATTACKER4}


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_many_bans_are_restored_after_a_flush(
    site: Site, running: Running, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them back; times and memory are printed, not judged: other work may share the machine."""
    desired = many(count, time.time())
    start_s = time.monotonic()
    assert len(running.reconcile(desired)) == count
    loaded_s = time.monotonic() - start_s
    single = sorted(timed_ban(running, f"198.51.100.{last}") for last in range(100))
    site.server.run("nft", "flush ruleset")
    start_s = time.monotonic()
    running.changed()
    assert len(running.reconcile(desired)) == count
    restored_s = time.monotonic() - start_s
    start_s = time.monotonic()
    assert running.read().end_ts.keys() == desired.keys()
    read_s = time.monotonic() - start_s
    assert running.reconcile(desired) == []
    with capsys.disabled():
        print(
            f"\n{count} bans: loaded in {loaded_s:.2f} s, restored in {restored_s:.2f} s, read in {read_s:.2f} s; "
            f"one ban there and back: median {single[50] * 1e3:.2f} ms, worst of 100 {single[-1] * 1e3:.2f} ms; "
            f"enforcer {rss_kib(running.process.pid) / 1024:.1f} MB"
        )


def timed_ban(running: Running, subject: str) -> float:
    """Seconds from handing over a ban to its Receipt."""
    start_s = time.perf_counter()
    assert running.ban(subject).ok
    return time.perf_counter() - start_s


def test_a_dry_run_judges_and_changes_nothing(site: Site) -> None:
    """The same commands, the same judgement, an empty ruleset."""
    code = """
from tocsin.enforce.nftables import Firewall
from tocsin.enforce.subjects import Change, Target, parse_subject
firewall = Firewall(dry_run=True)
firewall.ensure()
sound = [Change(parse_subject(one), True, 60) for one in ("192.0.2.1", "10.0.0.0/24", "2001:db8::/64", "2001:db8::1")]
print([bool(error) for error in firewall.apply([*sound, Change(Target("net4", bytes(4), 40), True, 60)])])
"""
    assert site.server.python(code).communicate(timeout=DEADLINE_S)[0] == "[False, False, False, False, True]\n"
    assert site.server.run("nft", "list", "ruleset") == ""


def test_selftest_proves_a_ban_with_packets_and_leaves_nothing(site: Site, running: Running) -> None:
    """The scratch table is gone again, and its own bans were not told as changes."""
    before = site.server.run("nft", "list", "tables")
    probed = running.probe()
    assert probed.ok
    assert [step.name for step in probed.steps] == [
        "firewall",
        "ban an IPv4 address",
        "ban an IPv6 /64",
        "end a held connection",
    ]
    assert all(step.ok for step in probed.steps)
    assert site.server.run("nft", "list", "tables") == before
    assert running.said == []


def test_selftest_says_what_is_missing(site: Site, running: Running) -> None:
    """Without its loopback no packet can prove anything; the step says so and what to do."""
    site.server.run("ip", "link", "set", "lo", "down")
    probed = running.probe()
    assert not probed.ok
    assert "ip link set lo up" in probed.steps[-1].remedy


def test_without_the_capability_each_receipt_says_what_to_do(site: Site) -> None:
    """Same program, same namespace, no CAP_NET_ADMIN: nothing pretends to work."""
    with enforcing(site.server, drop=True) as running:
        receipt = running.ban(ATTACKER4)
        assert not receipt.ok
        assert "CAP_NET_ADMIN" in receipt.error
        assert "Operation not permitted" in running.read().error
        probed = running.probe()
        assert not probed.ok
        assert "--observe" in probed.steps[0].remedy


def test_the_loop_ends_when_the_far_side_breaks_the_protocol(site: Site) -> None:
    """Hostile or broken, it is not served: the process ends with an error and the supervisor starts another."""
    with enforcing(site.server, ends=1) as running:
        running.socket.send(b"\x00\x00\x00\x02\xff\xff")
        assert running.process.wait(DEADLINE_S) == 1
