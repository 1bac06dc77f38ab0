"""Which of a jail's actions block, what they block, and what becomes of the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tocsin.fail2ban.actions.actions import (
    Enforcement,
    Kind,
    Service,
    Sorting,
    enforcement_of,
    sort_action,
    sort_actions,
)
from tocsin.fail2ban.actions.firewalls import ports_of
from tocsin.fail2ban.model import ActionSpec, FilterSpec, Jail
from tocsin.fail2ban.settings.loader import load

STOCK = Path("/etc/fail2ban")

OURS: tuple[str, ...] = (
    *("apf", "firewallcmd-allports", "firewallcmd-ipset", "firewallcmd-multiport", "firewallcmd-new"),
    *("firewallcmd-rich-logging", "firewallcmd-rich-rules", "hostsdeny", "iptables", "iptables-allports"),
    *("iptables-ipset", "iptables-ipset-proto4", "iptables-ipset-proto6", "iptables-ipset-proto6-allports"),
    *("iptables-multiport", "iptables-multiport-log", "iptables-new", "iptables-xt_recent-echo", "nftables"),
    *("nftables-allports", "nftables-multiport", "route", "shorewall", "shorewall-ipset-proto6"),
    *("symbiosis-blacklist-allports", "ufw"),
)
RUN: tuple[str, ...] = (
    *("abuseipdb", "apprise", "blocklist_de", "cloudflare", "cloudflare-token", "complain", "dshield", "dummy"),
    *("ipthreat", "mail", "mail-buffered", "mail-whois", "mail-whois-lines", "mynetwatchman", "netscaler"),
    *("nginx-block-map", "nsupdate", "sendmail", "sendmail-buffered", "sendmail-common", "sendmail-geoip-lines"),
    *("sendmail-whois", "sendmail-whois-ipjailmatches", "sendmail-whois-ipmatches", "sendmail-whois-lines"),
    *("sendmail-whois-matches", "xarf-login-attack"),
)
ELSEWHERE: tuple[str, ...] = ("bsd-ipfw", "ipfilter", "ipfw", "npf", "osx-afctl", "osx-ipfw", "pf")
PARTS: tuple[str, ...] = ("firewallcmd-common", "helpers-common", "mail-whois-common")


@pytest.fixture(scope="module")
def stock() -> Path:
    if not (STOCK / "action.d").is_dir():
        pytest.fail("the package fail2ban is not there: make setup installs it")
    return STOCK


@pytest.fixture(scope="module")
def sorted_stock(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sorting]:
    """Every stock action, each in a jail of its own for the ports 80 and 443."""
    directory = tmp_path_factory.mktemp("stock") / "fail2ban"
    shutil.copytree(stock, directory)
    names = sorted(path.stem for path in (stock / "action.d").glob("*.conf"))
    jails = "".join(
        f"[one-{name}]\nenabled = true\nfilter = sshd\nlogpath = /dev/null\nport = http,https\nchain = INPUT\n"
        f'action = {name}[name="%(__name__)s", port="%(port)s", protocol="tcp", chain="INPUT"]\n'
        for name in names
    )
    (directory / "jail.local").write_text(jails)
    found = {}
    for jail in load(directory, [f"one-{name}" for name in names]).jails:
        assert len(jail.actions) == 1, jail
        found[jail.name.removeprefix("one-")] = sort_action(jail.actions[0], jail)
    return found


def test_every_stock_action_is_sorted(sorted_stock: dict[str, Sorting], stock: Path) -> None:
    expected: dict[str, Kind] = {
        **dict.fromkeys(OURS, "ours"),
        **dict.fromkeys(RUN, "run"),
        **dict.fromkeys(ELSEWHERE, "elsewhere"),
    }
    assert {name: sorting.kind for name, sorting in sorted_stock.items()} == expected
    # The others have no [Definition]: they are there to be included, and whoever names one of them has no jail.
    assert {path.stem for path in (stock / "action.d").glob("*.conf")} == {*expected, *PARTS}


def test_an_action_without_commands_is_a_part() -> None:
    action = ActionSpec("helpers", "helpers", {"grepmax": "1000"})
    judged = sort_action(action, jail_with(action))
    assert judged.kind == "part"
    assert "no commands" in judged.sentence


def test_each_has_its_sentence_and_what_to_do(sorted_stock: dict[str, Sorting]) -> None:
    for name, sorting in sorted_stock.items():
        assert sorting.sentence.startswith(name)
        assert sorting.remarks, name
        assert all(remark.text and remark.jail == f"one-{name}" for remark in sorting.remarks), name


def test_none_of_them_lets_a_log_reach_an_interpreter(sorted_stock: dict[str, Sorting]) -> None:
    """So that whatever is refused is somebody's own doing, and the check is not a nuisance."""
    remarks = [remark.text for sorting in sorted_stock.values() for remark in sorting.remarks]
    assert not [text for text in remarks if "is not run:" in text]


WEB = (Service("tcp", 80, 80), Service("tcp", 443, 443))
ALL_TCP = (Service("tcp", 0, 65535),)
BLOCKED: dict[str, tuple[Service, ...]] = {
    **dict.fromkeys(
        ("iptables", "iptables-multiport", "iptables-multiport-log", "iptables-new", "iptables-ipset"), WEB
    ),
    **dict.fromkeys(("iptables-ipset-proto4", "iptables-ipset-proto6", "nftables", "nftables-multiport", "pf"), WEB),
    **dict.fromkeys(("firewallcmd-ipset", "firewallcmd-multiport", "firewallcmd-new", "firewallcmd-rich-rules"), WEB),
    **dict.fromkeys(("iptables-allports", "iptables-ipset-proto6-allports", "nftables-allports"), ALL_TCP),
    **dict.fromkeys(("firewallcmd-allports", "iptables-xt_recent-echo", "route", "ufw", "shorewall", "hostsdeny"), ()),
}


@pytest.mark.parametrize(("name", "services"), BLOCKED.items())
def test_ports_and_protocols_are_honoured(
    sorted_stock: dict[str, Sorting], name: str, services: tuple[Service, ...]
) -> None:
    enforcement = sorted_stock[name].enforcement
    assert enforcement is not None
    assert enforcement.services == services


@pytest.fixture(scope="module")
def stock_jails(stock: Path) -> dict[str, Jail]:
    return {jail.name: jail for jail in load(stock, all_jails=True).jails}


def test_every_stock_jail_blocks_but_the_one_that_lets_in(stock_jails: dict[str, Jail]) -> None:
    assert len(stock_jails) == 91
    blocks_nobody = [name for name, jail in stock_jails.items() if enforcement_of(jail) is None]
    assert blocks_nobody == ["pass2allow-ftp"]
    knocking = sort_actions(stock_jails["pass2allow-ftp"])
    assert [action.name for action in knocking.run] == ["iptables-multiport"]
    assert any("lets in" in remark.text for remark in knocking.remarks)
    assert any("blocks anybody" in remark.text and remark.severity == "warning" for remark in knocking.remarks)


def test_no_stock_jail_has_a_port_that_nobody_knows(stock_jails: dict[str, Jail]) -> None:
    assert not [
        remark.text
        for jail in stock_jails.values()
        for remark in sort_actions(jail).remarks
        if "nobody knows" in remark.text
    ]


def test_two_actions_of_a_jail_keep_their_ports_apart(stock_jails: dict[str, Jail]) -> None:
    enforcement = enforcement_of(stock_jails["counter-strike"])
    assert enforcement is not None
    assert enforcement.services == (
        Service("tcp", 27030, 27039),
        Service("udp", 1200, 1200),
        Service("udp", 27000, 27015),
    )
    assert enforcement.sentence() == "tcp ports 27030 to 27039 and udp ports 1200, 27000 to 27015"


def jail_with(*actions: ActionSpec, port: str = "ssh", protocol: str = "tcp") -> Jail:
    return Jail("j", FilterSpec("f"), actions=actions, port=port, protocol=protocol, file="jail.local", line=7)


def action_of(name: str = "mine", **options: str) -> ActionSpec:
    return ActionSpec(name, name, options, file=f"action.d/{name}.conf")


def test_a_firewall_is_known_by_what_it_calls_not_by_its_name() -> None:
    action = action_of("sendmail", actionban="/usr/sbin/iptables -I X 1 -s <ip> -j <blocktype>", blocktype="DROP")
    assert sort_action(action, jail_with(action)).kind == "ours"
    action = action_of("iptables-multiport", actionban="curl -d ip=<ip> https://example.org/")
    assert sort_action(action, jail_with(action)).kind == "run"


@pytest.mark.parametrize(
    ("ban", "kind"),
    [
        ("ip route add blackhole <ip>", "ours"),
        ("/sbin/ip -6 route add unreachable <ip>/128", "ours"),
        ("ip neigh flush <ip>", "run"),
        ("sudo nft add element inet filter blackhole { <ip> }", "ours"),
        ("ipset add whitelist <ip>", "run"),
        ("csf -d <ip>", "ours"),
        ("if true; then iptables -A INPUT -s <ip> -j DROP; fi", "ours"),
        (
            "printf '%s' '<ip>' | grep -q : && ip6tables -A INPUT -s <ip> -j DROP || iptables -A INPUT -s <ip> -j DROP",
            "ours",
        ),
        ("iptables -A INPUT -s <ip> -j DROP; curl -d <ip> https://example.org/", "both"),
        ("iptables -I INPUT -s <ip> -j ACCEPT", "run"),
        ("echo iptables <ip>", "run"),
        ("# iptables -A INPUT -s <ip> -j DROP\nlogger <ip>", "run"),
        ("logger 'iptables <ip>'", "run"),
        ("echo '<ip>' >> /etc/hosts.deny", "ours"),
    ],
)
def test_what_an_action_of_ones_own_is(ban: str, kind: Kind) -> None:
    action = action_of(actionban=ban)
    assert sort_action(action, jail_with(action)).kind == kind


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("iptables -I INPUT -p tcp --dport 8080 -j f2b", ((8080, 8080),)),
        ("iptables -I INPUT -p tcp -m multiport --dports http,8000:8010 -j f2b", ((80, 80), (8000, 8010))),
        ("nft add rule inet f c tcp dport { 22, 2222 } ip saddr @s drop", ((22, 22), (2222, 2222))),
        ("iptables -I INPUT -p tcp -m multiport --dports $ports -j f2b", ((22, 22),)),
        ("iptables -I INPUT -p tcp -j f2b", ()),
    ],
)
def test_ports_are_read_where_they_stand(start: str, expected: tuple[tuple[int, int], ...]) -> None:
    ban = "nft add element inet f s { <ip> }" if start.startswith("nft") else "iptables -I f2b -s <ip> -j DROP"
    enforcement = enforcement_of(jail_with(action_of(actionstart=start, actionban=ban)))
    assert enforcement is not None
    assert enforcement.ports == expected
    assert enforcement.protocols == ("tcp",)


@pytest.mark.parametrize(
    ("text", "ranges", "unknown"),
    [
        ("http,https", ((80, 80), (443, 443)), ()),
        ("ssh", ((22, 22),), ()),
        ("0:65535", (), ()),
        ("1:65535", (), ()),
        ("all", (), ()),
        ("", (), ()),
        ("1024:2048", ((1024, 2048),), ()),
        ("1024-2048, 2049", ((1024, 2049),), ()),
        ("80 443", ((80, 80), (443, 443)), ()),
        ("http,nonsuch", ((80, 80),), ("nonsuch",)),
        ("70000", (), ("70000",)),
        ("2048:1024", (), ("2048:1024",)),
        (":1024", ((0, 1024),), ()),
        ("ftp-data", ((20, 20),), ()),
    ],
)
def test_ports_in_words(text: str, ranges: tuple[tuple[int, int], ...], unknown: tuple[str, ...]) -> None:
    assert ports_of(text) == (ranges, unknown)


def test_a_name_of_the_machines_own_is_asked_for() -> None:
    assert ports_of("gemini", {"gemini": 1965}.get) == (((1965, 1965),), ())


def test_an_unknown_port_is_remarked_with_what_to_write() -> None:
    action = action_of(
        actionstart="iptables -I INPUT -p tcp --dport <port> -j c",
        actionban="iptables -I c -s <ip> -j DROP",
        port="htpp",
    )
    judged = sort_actions(jail_with(action))
    assert judged.enforcement is not None
    assert judged.enforcement.services == (Service("tcp", 0, 65535),)
    texts = [remark.text for remark in judged.remarks if remark.severity == "warning"]
    assert any("htpp" in text and "write its number" in text for text in texts)


def test_another_chain_is_covered_and_said_so() -> None:
    action = action_of(
        actionstart="iptables -I <chain> -j c", actionban="iptables -I c -s <ip> -j DROP", chain="DOCKER-USER"
    )
    judged = sort_actions(jail_with(action))
    assert judged.enforcement == Enforcement(chain="DOCKER-USER", actions=("mine",))
    assert any("DOCKER-USER" in remark.text and remark.severity == "instead" for remark in judged.remarks)


def test_a_jail_with_mail_alone_blocks_nobody_and_says_so() -> None:
    judged = sort_actions(jail_with(action_of(actionban="echo <ip> | mail -s x root")))
    assert judged.enforcement is None
    assert len(judged.run) == 1
    assert any("nobody is blocked" in remark.text for remark in judged.remarks)


def test_a_python_action_is_not_run() -> None:
    action = ActionSpec("smtp.py", "smtp.py", {}, {"host": "localhost"}, "action.d/smtp.py")
    judged = sort_action(action, jail_with(action))
    assert judged.kind == "python"
    assert "is not run" in judged.sentence


def test_what_needs_root_is_remarked() -> None:
    action = action_of(actionban="systemctl restart nginx")
    texts = [remark.text for remark in sort_action(action, jail_with(action)).remarks]
    assert any('actions_user = "root"' in text for text in texts)


@pytest.mark.parametrize(
    "ban",
    [
        'eval "x=<F-USER>"',
        'sh -c "echo <matches>"',
        'ssh gate "block <F-USER>"',
        "perl -e 'print \"<matches>\"'",
        'x=$(bash -c "echo <F-USER>")',
        'bash -c "$(echo <F-USER>)"',
        "echo <F-USER> | sh",
        "mysql -e \"insert into t values ('<F-USER>')\"",
        "xargs sh -c 'echo <F-USER>'",
        "sed -i 's/<F-USER>/x/' f",
        "<F-USER>",
        '"/usr/lib/<F-USER>" x',
        "if <F-USER>; then true; fi",
        "x=1 <F-USER>",
        "sudo -n <F-USER>",
        "x $(<F-USER>)",
        "echo x > log.<F-USER>",
        'echo x >> "/var/log/<F-USER>.log"',
        "echo $((<F-USER> + 1))",
    ],
)
def test_what_another_program_would_run_is_refused(ban: str) -> None:
    action = action_of(actionban=ban)
    texts = [remark.text for remark in sort_action(action, jail_with(action)).remarks]
    assert any("actionban is not run" in text and "put the command into a script" in text for text in texts), texts


@pytest.mark.parametrize(
    "ban",
    [
        'ssh gate "ipset add x <ip>"',
        "perl -e 'print <time>'",
        'script "<matches>"',
        "x | sh y <F-USER>",
        "x=<F-USER>",
        "x='<F-USER>' y",
        'case "<F-USER>" in a) b;; esac',
        '[ "<F-USER>" = a ] && b',
        "a <F-USER> > log",
        "for x in <F-USER>; do y; done",
    ],
)
def test_what_is_safe_is_not_refused(ban: str) -> None:
    action = action_of(actionban=ban)
    texts = [remark.text for remark in sort_action(action, jail_with(action)).remarks]
    assert not any("is not run:" in text for text in texts)


def test_an_action_that_names_itself_is_a_remark_not_a_crash() -> None:
    action = action_of(actionban="echo <a>", a="<b> <b>", b="<a>")
    judged = sort_action(action, jail_with(action))
    assert judged.kind == "part"
    assert "leads back to itself" in judged.sentence
