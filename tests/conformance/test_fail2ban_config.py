"""The configuration as fail2ban itself reads it: its own stock, and hand-made ones that are as nasty as they may be."""

from __future__ import annotations

import ast
import re
import subprocess
import time
from pathlib import Path

import pytest
from fail2ban_oracle import STOCK, compare, copy_of_stock, dump, read_with_fail2ban, records_of_fail2ban

from tocsin.fail2ban.settings.loader import load, parse_span_s

ALL_ON = "[DEFAULT]\nenabled = true\n"


def give_logs(directory: Path) -> None:
    """Moves all log paths of a configuration below its own directory and puts a file at each, for globs two."""
    for name in ("jail.conf", "paths-common.conf", "paths-debian.conf"):
        path = directory / name
        path.write_text(re.sub(r"(?<=[\s=])/(?=[\w.*]+/)", f"{directory.parent}/root/", path.read_text()))
    for jail in load(directory, all_jails=True).jails:
        for pattern in jail.logpath:
            for star in ("", "other_") if "*" in pattern else ("",):
                log = Path(pattern.replace("*", star).replace("[0-9]", "1"))
                log.parent.mkdir(parents=True, exist_ok=True)
                log.touch()


def test_all_stock_jails_are_read_as_fail2ban_reads_them(tmp_path: Path) -> None:
    directory = copy_of_stock(tmp_path, ALL_ON)
    give_logs(directory)
    loaded = load(directory)
    theirs = records_of_fail2ban(directory)
    fields, differences = compare(theirs, loaded.jails)
    assert not differences, "\n".join(differences)
    assert len(theirs) == 91
    assert fields > 91 * 40
    assert all(record["logpath"] for record in theirs.values()), "each jail's logpath was really compared"
    assert loaded.remarks == ()
    general = {
        option: str(value) for verb, option, value in (c for c in dump(directory) if len(c) == 3 and c[0] == "set")
    }
    assert {option: loaded.settings.get(option, "auto") for option in general} == general
    print(f"{len(theirs)} jails, {fields} fields compared, all equal")


def test_all_stock_filters_and_actions_on_the_journal(tmp_path: Path) -> None:
    filters = sorted(path.stem for path in (STOCK / "filter.d").glob("*.conf") if not path.stem.endswith("common"))
    actions = sorted(path.stem for path in (STOCK / "action.d").glob("*.conf") if "common" not in path.stem)
    jails = [f"[f-{name}]\nfilter = {name}[logtype=journal]\nbackend = systemd[journalflags=1]\n" for name in filters]
    jails += [f"[a-{name}]\nfilter = sshd\naction = {name}[name=%(__name__)s-x, port='1:2']\n" for name in actions]
    directory = copy_of_stock(tmp_path, ALL_ON + "logpath = /var/log/*none\n" + "".join(jails))
    theirs = records_of_fail2ban(directory)
    loaded = load(directory)
    _, differences = compare(theirs, loaded.jails)
    assert not differences, "\n".join(differences)
    assert len(theirs) == 91 + len(filters) + len(actions) > 230


# What stands in these is read by fail2ban without complaint, and must be read here the same way.
NASTY: dict[str, dict[str, str]] = {
    "known-in-layers": {
        "jail.d/10.conf": "[sshd]\nenabled = true\nport = 1\nignoreip = 192.0.2.1\nmaxretry = 7\n",
        "jail.local": "[sshd]\nport = %(known/port)s,2\nignoreip = 192.0.2.2 %(known/ignoreip)s %(port)s\n",
        "jail.d/20.local": "[sshd]\nmaxretry = 1%(known/maxretry)s\nbantime = %(known/bantime)s\n",
    },
    "known-of-the-filter": {
        "filter.d/own.conf": "[INCLUDES]\nbefore = common.conf\n[Definition]\n_daemon = own\n"
        "failregex = ^%(__prefix_line)sone <HOST>$\nignoreregex = ^two\n  three <mode>\nmode = a\n"
        "datepattern = ^%%Y\n[Init]\nmaxlines = 3\njournalmatch = _COMM=own\n",
        "filter.d/own.local": "[Definition]\nfailregex = %(known/failregex)s\n  ^four <known/mode> <HOST>\n"
        "[Init]\nmaxlines = 1%(known/maxlines)s\n",
        "jail.local": "[own]\nenabled = true\nlogpath = /none\nmode = b\n"
        "failregex = %(known/failregex)s\n  five <HOST>\nignoreregex =\nusedns = no\n",
    },
    "filter-options-in-the-jail": {
        "jail.local": "[sshd]\nenabled = true\nprefregex = ^x<F-CONTENT>.*</F-CONTENT>\nmaxlines = 4\n"
        "datepattern = {^LN-BEG}%%H:%%M\n  EPOCH\njournalmatch = _COMM=a + _COMM=b\n  _COMM='c d'\nusedns = raw\n",
    },
    "nested-tags": {
        "filter.d/own.conf": "[Definition]\nfailregex = <r-<mode>-<kind>> <HOST>\n"
        "  <s_<mode>/x> <unknown> <a-<b-<c>>>\n"
        "r-x-y = first <deep>\nr-z-y = second\nkind = y\nmode = x\ndeep = <deeper>\ndeeper = <kind>!\n"
        "c = d\nb-d = e\na-e = found\n[s_x]\nx = of x <kind>\n[s_z]\nx = of z %(y)s\n[DEFAULT]\ny = why\n",
        "jail.local": "[DEFAULT]\nenabled = false\nlogpath = /none\n[own]\nenabled = true\nfilter = own\n"
        "[own-z]\nenabled = true\nfilter = own[mode=z]\n"
        "[own-q]\nenabled = true\nfilter = own[mode=z, kind=q][kind=y]\n",
    },
    "tags-in-jail-are-left": {
        "jail.local": "[sshd]\nenabled = true\nfailregex = ^<mode> <HOST> <F-USER>.*</F-USER>\n",
    },
    "conditional-sections": {
        "action.d/own.conf": "[Definition]\nactionstart = start <tool> <set>\n"
        "actionban = <tool> add <set> <ip> <type>\n[Init]\ntool = four\nset = f2b-<name>\ntype = <kind>\nkind = k\n"
        "[Init?family=inet6]\ntool = six\nset = <known/set>-6\n[Init?family=inet4]\nextra = <kind>\n",
        "action.d/own.local": "[Init?family=inet6]\ntool = six-local\n[Init]\nkind = l\n",
        "jail.local": "[sshd]\nenabled = true\naction = own[set='mine', type=\"<kind>,<name>\"]\n  own[name=other]\n",
    },
    "sections-by-name": {
        "jail.local": "[DEFAULT]\nbantime = 7m\nkeep = 192.0.2.0/24\n[monit]\nmaxretry = 9\nkeep = 192.0.2.9\n"
        "[sshd]\nenabled = true\nmaxretry = %(monit/maxretry)s\nignoreip = %(default/keep)s %(monit/keep)s\n"
        "bantime = %(monit/bantime)s\nfindtime = %(default/bantime)s\nlogencoding = %(monit/logencoding)s\n",
    },
    "drop-in-directories": {
        "filter.d/sshd.d/1.conf": "[Definition]\nfailregex = ^one <HOST>\n",
        "filter.d/sshd.local": "[Definition]\nfailregex = %(known/failregex)s\n  ^two <HOST>\nmaxlines = 2\n",
        "filter.d/sshd.d/2.local": "[Definition]\nignoreregex = ^three\n",
        "action.d/iptables-multiport.d/a.local": "[Init]\nblocktype = DROP\nchain = FORWARD\n",
        "jail.d/a.local": "[sshd]\nmaxretry = 3\n",
        "jail.d/b.conf": "[sshd]\nmaxretry = 4\nenabled = true\n",
        "jail.d/.hidden.conf": "[sshd]\nmaxretry = 99\n",
        "fail2ban.d/x.local": "[Definition]\nloglevel = DEBUG\n",
        "jail.local": "",
    },
    "includes-and-their-locals": {
        "filter.d/base.conf": "[INCLUDES]\nbefore = deeper.conf\n[DEFAULT]\nx = base\n"
        "[Definition]\nfailregex = <x> <y> <HOST>\n",
        "filter.d/base.local": "[DEFAULT]\nx = base-local\n",
        "filter.d/deeper.conf": "[INCLUDES]\nafter = base.conf\n[DEFAULT]\nx = deeper\ny = deeper\n",
        "filter.d/deeper.local": "[Definition]\nignoreregex = deeper\n",
        "filter.d/after.conf": "[Definition]\nmaxlines = 6\n",
        "filter.d/only-local.local": "[Definition]\ndatepattern = EPOCH\n",
        "filter.d/own.conf": "[INCLUDES]\nbefore = base.conf\n  only-local.conf\n  not-there.local\n"
        "after = after.conf\n[Definition]\nmaxlines = 5\nx = own\n",
        "jail.local": "[own]\nenabled = true\nlogpath = /none\n",
    },
    "quoting": {
        "action.d/own.conf": "[Definition]\nactionban = a <one> b <two> c <three> d <four>\n[Init]\none = 1\ntwo = 2\n",
        "jail.local": '[sshd]\nenabled = true\naction = own[one="a, b] c", two=\'it is "so"\', three=bare word, four=]'
        '\n  own[actname=x, one="",\n   two=\'new\n   line\', three=a=b;c]   own[actname=y][one=1][two="[2]"]\n'
        '  smtp.py[dest="root@example.net", sender=\'me\', matches="x"] own[actname="sp"]\n',
    },
    "spans-and-numbers": {
        "jail.local": "[sshd]\nenabled = true\nfindtime = 1d 2h3m\nbantime = 1y6mo\nbantime.increment = on\n"
        "bantime.factor = 2\nbantime.formula = ban.Time * 1.5\nbantime.multipliers = 1 2 4 8\n"
        "bantime.maxtime = 5weeks\nbantime.rndtime = 30min\n"
        "bantime.overalljails = True\nignoreself = no\nmaxmatches = 2\nmaxretry = 12\n"
        'ignorecache = key="<ip>", max-count=100, max-time=5m\nignorecommand = /bin/x <ip>\n  second\n'
        "logtimezone = UTC+0200\nlogencoding = latin1\n[monit]\nenabled = yes\nbantime = -1\nfindtime = 2*60+30\n"
        "bantime.rndtime = 0.5h\n[selinux-ssh]\nenabled = 1\nbantime = 1h-30m\nfindtime = (1h + 30m)/2\n",
    },
    "ini-dialect": {
        "jail.local": "# comment\n[DEFAULT] trailing\nIgnoreIP: 192.0.2.1 ; said at the end\n  192.0.2.2;not a comment"
        "\n# in between\n  192.0.2.3\n\n  192.0.2.4\n; other\n[sshd]\nENABLED=true\n   ; indented comment\n\n"
        "maxretry : 8\nlogencoding = utf-8\n[monit]\n  enabled = true\n  maxretry = 3\n    \n  port=a%%b\n",
    },
    "jail-options-in-filter-and-action": {
        "filter.d/own.conf": "[Definition]\nfailregex = %(maxretry)s %(bantime)s <HOST>\nmaxretry = 1\nbantime = 2\n",
        "action.d/own.conf": "[Definition]\nactionban = %(findtime)s %(logpath)s <bantime> <timeout> <matches>\n"
        "norestored = yes\nactionstart_on_demand = 0\n[Init]\ntimeout = 9\nbantime = 3\n",
        "jail.local": "[own]\nenabled = true\nmaxretry = 4\nlogpath = /none\naction = own[x=1]\n",
    },
    "names": {
        "jail.local": "[DEFAULT]\nbanaction = nftables\n[sshd]\nenabled = true\nchain = OWN\n"
        "action = %(action_mwl)s\n   dummy[name=%(__name__)s-2, init='%(fail2ban_version)s %(fail2ban_confpath)s']\n",
    },
    "no-filter": {
        "jail.local": "[own]\nenabled = true\nfilter =\nlogpath = /none\n"
        "failregex = a <HOST>\n  b <HOST>\nmaxlines = 2\n",
    },
    "init-over-definition": {
        "filter.d/own.conf": "[Definition]\nfailregex = <x> %(z)s <HOST>\nx = def\nz = def\nmaxlines = 2\n"
        "[Init]\nx = init\nz = init\nmaxlines = 3\n",
        "jail.local": "[DEFAULT]\nlogpath = /none\n[own]\nenabled = true\nfailregex = %(known/failregex)s\n"
        "[own2]\nenabled = true\nfilter = own[x=given <known/x>, maxlines=4]\n",
    },
}


@pytest.mark.parametrize("case", NASTY)
def test_nasty_configurations_are_read_as_fail2ban_reads_them(case: str, tmp_path: Path) -> None:
    directory = copy_of_stock(tmp_path, files=NASTY[case])
    (directory / "jail.d" / "defaults-debian.conf").unlink()
    theirs = records_of_fail2ban(directory)
    loaded = load(directory)
    fields, differences = compare(theirs, loaded.jails)
    assert not differences, "\n".join(differences)
    assert theirs
    assert fields > 20


SPANS = (
    *("600", "0", "-1", "1.5", "10m", "48h", "1d12h", "1d 12h 30m", "1y 6mo 2w 3d12h30m", "1hour+30min", "0d 1h 30m"),
    *(
        "1year-6mo",
        "6 months",
        "2*60+30",
        "(1h+30m)/2",
        "1h/2",
        "3mm",
        "2 ss",
        "1da",
        "1wee",
        "1hou",
        "1yea",
        "5 weeks",
    ),
    *("1D", "1H30M", "2MO", "1days", "0.5h", "60*60*24", "-(1h)", "1m 30", "1 second", "7mon", "1h - 10min"),
)


def test_spans_are_those_of_fail2ban() -> None:
    script = (
        "import sys; from fail2ban.server.mytime import MyTime; print([MyTime.str2seconds(t) for t in sys.argv[1:]])"
    )
    ran = subprocess.run(["/usr/bin/python3", "-c", script, *SPANS], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    theirs = ast.literal_eval(ran.stdout)
    assert dict(zip(SPANS, map(parse_span_s, SPANS), strict=True)) == pytest.approx(
        dict(zip(SPANS, theirs, strict=True))
    )


# Here fail2ban refuses the whole configuration, or says nothing and means something else.
BETTER: dict[str, tuple[str, str]] = {
    "known-in-three-layers": (
        "[sshd]\nenabled = true\nignoreip = %(known/ignoreip)s 192.0.2.2\n",
        "[sshd]\nignoreip = %(known/ignoreip)s 192.0.2.3\n",
    ),
    "capital-default": ("[sshd]\nenabled = true\nport = %(DEFAULT/port)s\nignoreip = %(DEFAULT/port)s\n", ""),
    "bare-line": ("[sshd]\nenabled = true\nbare\n", ""),
    "duplicate": ("[sshd]\nenabled = true\n[monit]\nenabled = true\nport = 1\nport = 2\n", ""),
}


@pytest.mark.parametrize("case", BETTER)
def test_what_fail2ban_refuses_as_a_whole_costs_one_jail_at_most(case: str, tmp_path: Path) -> None:
    first, second = BETTER[case]
    directory = copy_of_stock(tmp_path, files={"jail.d/1.conf": "[sshd]\nignoreip = 192.0.2.1\n", "jail.local": first})
    (directory / "jail.d" / "2.local").write_text(second)
    [theirs] = read_with_fail2ban([directory])
    assert "refused" in theirs
    assert "sshd" in [jail.name for jail in load(directory).jails]


def test_time_to_load_all_stock_jails(tmp_path: Path) -> None:
    directory = copy_of_stock(tmp_path, ALL_ON)
    best_s = min(_seconds(directory) for _ in range(3))
    print(f"91 jails loaded in {best_s * 1000:.0f} ms")
    assert best_s < 0.5


def _seconds(directory: Path) -> float:
    start = time.perf_counter()
    assert len(load(directory).jails) == 91
    return time.perf_counter() - start
