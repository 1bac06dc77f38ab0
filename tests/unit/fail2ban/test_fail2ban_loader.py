"""Whole configurations: what is remarked, what it costs, and that nothing hostile holds the loader up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tocsin.config_model import ConfigErrors
from tocsin.fail2ban.model import Loaded, Remark
from tocsin.fail2ban.settings.loader import load, load_filter

FILTER = "[Definition]\nfailregex = ^x <HOST>$\n"
ACTION = "[Definition]\nactionban = ban <ip> <port>\n[Init]\nport = 1\n"
BASE = "[DEFAULT]\nfilter = %(__name__)s\nlogpath = /var/log/x.log\naction = act\nbanaction = act\n"
ON = "[one]\nenabled = true\nfilter = fil\n[two]\nenabled = true\nfilter = fil\n"


def write(directory: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in {"filter.d/fil.conf": FILTER, "action.d/act.conf": ACTION, "jail.conf": BASE, **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return directory


def names(loaded: Loaded) -> list[str]:
    return [jail.name for jail in loaded.jails]


def place(remark: Remark, directory: Path) -> tuple[str, str, str, int]:
    file = str(Path(remark.file).relative_to(directory)) if remark.file else ""
    return remark.severity, remark.jail, file, remark.line


def only(directory: Path, loaded: Loaded) -> tuple[tuple[str, str, str, int], str]:
    """The one remark that there is."""
    [remark] = loaded.remarks
    return place(remark, directory), remark.text


def test_a_jail_without_a_word_has_the_defaults(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, {"jail.local": "[one]\nenabled = true\nfilter = fil\n"}))
    assert loaded.remarks == ()
    [jail] = loaded.jails
    assert (jail.maxretry, jail.maxmatches, jail.findtime_s, jail.bantime_s) == (5, None, 600.0, 600.0)
    assert (jail.backend, jail.logencoding, jail.logtimezone, jail.ignoreself) == ("auto", "auto", None, True)
    assert (jail.logpath, jail.from_tail, jail.ignoreip) == (("/var/log/x.log",), (), ())
    assert (jail.skip_if_nologs, jail.systemd_if_nologs) == (False, True)
    assert (jail.file, jail.line) == (str(tmp_path / "jail.local"), 1)
    assert (jail.filter.failregex, jail.filter.usedns, jail.filter.maxlines) == (("^x <HOST>$",), "warn", 1)
    assert jail.filter.file == str(tmp_path / "filter.d" / "fil.conf")
    [action] = jail.actions
    assert action.options == {"actionban": "ban <ip> 1", "port": "1", "name": "one", "actname": "act"}


def test_all_options_of_a_jail(tmp_path: Path) -> None:
    text = (
        "[one]\nenabled = yes\nfilter = fil\nbackend = systemd[journalflags=1]\nmaxretry = 3\nmaxmatches = 2\n"
        "findtime = 1h\nbantime = -1\nbantime.increment = true\nbantime.factor = 2\nbantime.formula = ban.Time\n"
        "bantime.multipliers = 1 5 30\nbantime.maxtime = 1w\nbantime.rndtime = 5m\nbantime.overalljails = on\n"
        "ignoreself = false\nignoreip = 127.0.0.1/8, ::1\n  example.net file:/etc/allowed\n"
        "ignorecommand = /bin/x <ip>\n"
        'ignorecache = key="<ip>", max-count=9\nlogpath = /a/*.log head\n  /b.log tail\n  /c.log\n'
        "logencoding = latin1\n"
        "logtimezone = UTC+02\nskip_if_nologs = true\nsystemd_if_nologs = false\n"
        "port = 22\nprotocol = udp\nchain = IN\n"
    )
    loaded = load(write(tmp_path, {"jail.local": text}))
    assert loaded.remarks == ()
    [jail] = loaded.jails
    increment = jail.increment
    assert (jail.maxretry, jail.maxmatches, jail.findtime_s, jail.bantime_s) == (3, 2, 3600.0, None)
    assert (increment.enabled, increment.factor, increment.formula) == (True, "2", "ban.Time")
    assert (increment.multipliers, increment.maxtime_s, increment.rndtime_s) == ((1, 5, 30), 604_800.0, 300.0)
    assert (increment.overalljails, jail.ignoreself) == (True, False)
    assert jail.ignoreip == ("127.0.0.1/8", "::1", "example.net", "file:/etc/allowed")
    assert (jail.ignorecommand, jail.ignorecache) == ("/bin/x <ip>", 'key="<ip>", max-count=9')
    assert (jail.logpath, jail.from_tail) == (("/a/*.log", "/b.log", "/c.log"), ("/b.log",))
    assert (jail.logencoding, jail.logtimezone, jail.skip_if_nologs, jail.systemd_if_nologs) == (
        "latin1",
        "UTC+02",
        True,
        False,
    )
    assert (jail.backend, jail.filter.logtype) == ("systemd[journalflags=1]", "journal")
    assert (jail.port, jail.protocol, jail.chain) == ("22", "udp", "IN")


def test_which_jails_are_loaded(tmp_path: Path) -> None:
    directory = write(tmp_path, {"jail.local": ON + "[off]\nfilter = fil\n"})
    assert names(load(directory)) == ["one", "two"]
    assert names(load(directory, all_jails=True)) == ["one", "two", "off"]
    assert names(load(directory, ("off",))) == ["off"]
    assert [jail.enabled for jail in load(directory, all_jails=True).jails] == [True, True, False]
    where, text = only(directory, load(directory, ("twoo", "one")))
    assert where == ("error", "twoo", "", 0)
    assert "did you mean `two`" in text


# What is said in `jail.local` after two jails that are fine, its remark's place, and words of the remark.
SLIPS: dict[str, tuple[str, tuple[str, str, str, int], tuple[str, ...]]] = {
    "unknown option": ("maxrety = 3", ("warning", "two", "jail.local", 7), ("`maxrety`", "did you mean `maxretry`")),
    "bare line": ("maxretry 3", ("warning", "two", "jail.local", 7), ("'maxretry 3'", "name = value")),
    "default": ("[default]\nmaxretry = 3", ("warning", "", "jail.local", 7), ("[default]", "write [DEFAULT]")),
    "indented": (
        "port = 3\n maxretry = 9\nbackend = polling\n  x",
        ("instead", "two", "jail.local", 9),
        ("`backend`",),
    ),
    "backend": ("backend = systmd", ("warning", "two", "jail.local", 7), ("did you mean `systemd`", "auto")),
    "number": ("maxretry = three", ("warning", "two", "jail.local", 7), ("whole number", "5 is taken")),
    "too small a number": ("maxretry = 0", ("warning", "two", "jail.local", 7), ("1 is taken",)),
    "span": ("bantime = 10 minuts", ("warning", "two", "jail.local", 7), ("`10m`", "own default")),
    "findtime": ("findtime = 0", ("warning", "two", "jail.local", 7), ("10m is taken",)),
    "switch": ("ignoreself = ture", ("warning", "two", "jail.local", 7), ("'ture'", "`true` or `false`")),
    "usedns": ("usedns = maybe", ("warning", "two", "jail.local", 7), ("yes, warn, no or raw",)),
    "maxlines": ("maxlines = 0", ("warning", "two", "jail.local", 7), ("at least 1", "1 is taken")),
    "encoding": ("logencoding = utf-9", ("warning", "two", "jail.local", 7), ("'utf-9'", "utf-8")),
    "multipliers": ("bantime.multipliers = 1 x 4", ("warning", "two", "jail.local", 7), ("'x'",)),
    "address": ("ignoreip = 10.0.0.0/33", ("warning", "two", "jail.local", 7), ("10.0.0.0/33", "192.0.2.0/24")),
    "comment": ("ignoreip = ::1 # mine", ("instead", "two", "jail.local", 7), ("`# mine`",)),
    "blank in a path": ("logpath = /var/log/my log", ("instead", "two", "jail.local", 7), ("'log'", "one path")),
    "no log": ("logpath =", ("warning", "two", "jail.local", 7), ("watches no log",)),
    "no action": ("action =", ("warning", "two", "jail.local", 7), ("bans nobody",)),
    "same action twice": ("action = act act", ("instead", "two", "jail.local", 7), ("`act-2`", "`actname`")),
    "brackets": ("action = act[prot=1]", ("warning", "two", "jail.local", 7), ("`prot`", "did you mean `port`")),
    "include": ("[INCLUDES]\nbefore = jail.con", ("warning", "", "jail.local", 8), ("`jail.con`", "`jail.conf`")),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_told_with_its_place_and_what_to_do_and_the_jails_run(slip: str, tmp_path: Path) -> None:
    said, where, words = SLIPS[slip]
    directory = write(tmp_path, {"jail.local": ON + said + "\n"})
    loaded = load(directory)
    assert names(loaded) == ["one", "two"]
    assert only(directory, loaded)[0] == where
    for word in words:
        assert word in loaded.remarks[0].text


def test_switched_on_with_a_typo_is_off_and_told(tmp_path: Path) -> None:
    directory = write(tmp_path, {"jail.local": ON + "[three]\nenabled = ture\nfilter = fil\n"})
    loaded = load(directory)
    assert names(loaded) == ["one", "two"]
    assert only(directory, loaded)[0] == ("warning", "three", "jail.local", 8)


# What makes the second of two jails impossible: the files, the remark's place, and words of it.
BROKEN: dict[str, tuple[dict[str, str | bytes], tuple[str, str, str, int], str]] = {
    "option twice": ({"jail.local": ON + "port = 1\nport = 2\n"}, ("error", "two", "jail.local", 8), "stands twice"),
    "section twice": (
        {"jail.local": ON + "[two]\nport = 2\n"},
        ("error", "two", "jail.local", 7),
        "[two] stands twice",
    ),
    "no filter": (
        {"jail.local": ON + "[x]\nenabled = true\nfilter = fill\n"},
        ("error", "x", "jail.local", 9),
        "`fil`",
    ),
    "no action": (
        {"jail.local": ON + "[x]\nenabled=1\nfilter=fil\naction=atc\n"},
        ("error", "x", "jail.local", 10),
        "`act`",
    ),
    "circle": (
        {"jail.local": ON + "[x]\nenabled=1\nfilter=fil\nport=%(port)s\nignoreip=%(port)s\n"},
        ("error", "x", "jail.local", 10),
        "comes back",
    ),
    "call": (
        {"jail.local": ON + "[x]\nenabled=1\nfilter=fil[x\n"},
        ("error", "x", "jail.local", 9),
        "name[option=value]",
    ),
    "actions": (
        {"jail.local": ON + "[x]\nenabled=1\nfilter=fil\naction=act[x\n"},
        ("error", "x", "jail.local", 10),
        "`action`",
    ),
    "bad filter": (
        {"jail.local": ON + "[x]\nenabled=1\n", "filter.d/x.conf": FILTER + "failregex = y\n"},
        ("error", "x", "filter.d/x.conf", 3),
        "the filter `x` cannot be used",
    ),
    "no definition": (
        {"jail.local": ON + "[x]\nenabled=1\n", "filter.d/x.conf": FILTER.lower()},
        ("error", "x", "filter.d/x.conf", 0),
        "did you mean `Definition`",
    ),
    "tags in a circle": (
        {"jail.local": ON + "[x]\nenabled=1\n", "filter.d/x.conf": "[Definition]\nfailregex = <a>\na = <b>\nb = <a>\n"},
        ("error", "x", "jail.local", 7),
        "leads back to itself",
    ),
    "not UTF-8": (
        {"jail.local": ON.encode() + b"[x]\nenabled = 1\nport = \xe9\n"},
        ("error", "x", "jail.local", 9),
        "save the file as UTF-8",
    ),
    "too large": (
        {"jail.local": ON + "[x]\nenabled = 1\n", "filter.d/x.conf": "#" * (1 << 21)},
        ("error", "x", "filter.d/x.conf", 0),
        "2.0 MiB",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_run_is_left_out_and_the_others_run(case: str, tmp_path: Path) -> None:
    files, where, words = BROKEN[case]
    directory = write(tmp_path, files)
    loaded = load(directory)
    assert "one" in names(loaded)
    assert where[1] not in names(loaded)
    assert where in [place(remark, directory) for remark in loaded.remarks]
    assert any(words in remark.text for remark in loaded.remarks)


def test_what_concerns_all_leaves_all_out(tmp_path: Path) -> None:
    for text in (
        "maxretry = 1\n" + ON,
        "[DEFAULT]\nport = 1\nport = 2\n" + ON,
        b"[DEFAULT]\nport = \xff\n" + ON.encode(),
    ):
        loaded = load(write(tmp_path, {"jail.local": text}))
        assert loaded.jails == ()
        assert [remark.severity for remark in loaded.remarks] == ["error"]


def test_slips_in_filters_and_actions(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "jail.local": ON,
        "filter.d/fil.conf": FILTER
        + "ignoreregx = x\nfailregexes-of-mine = y\nmdre-a = <mdre-<mode>>\n[init]\nx = 1\n",
        "action.d/act.local": "[Definition]\nacionunban = x\n",
    }
    directory = write(tmp_path, files)
    loaded = load(directory)
    assert names(loaded) == ["one", "two"]
    assert [place(remark, directory) for remark in loaded.remarks] == [
        ("warning", "", "filter.d/fil.conf", 6),
        ("warning", "", "filter.d/fil.conf", 3),
        ("warning", "", "action.d/act.local", 2),
    ]
    assert [remark.text.split("did you mean ")[1].split("?")[0] for remark in loaded.remarks] == [
        "`Init`",
        "`ignoreregex`",
        "`actionunban`",
    ]


def test_settings(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "fail2ban.conf": "[Definition]\nloglevel = INFO\ndbfile = /x.sqlite3\n[Thread]\nstacksize = 0\n",
        "fail2ban.local": "[Definition]\nlogevel = DEBUG\ndbpurgeage = 2d\n",
    }
    directory = write(tmp_path, files)
    loaded = load(directory)
    assert dict(loaded.settings) == {
        "loglevel": "INFO",
        "dbfile": "/x.sqlite3",
        "logevel": "DEBUG",
        "dbpurgeage": "2d",
        "stacksize": "0",
    }
    where, text = only(directory, loaded)
    assert where == ("warning", "", "fail2ban.local", 2)
    assert "`loglevel`" in text


def test_python_actions_keep_their_arguments(tmp_path: Path) -> None:
    directory = write(
        tmp_path, {"jail.local": ON.replace("= fil\n[", "= fil\naction = smtp.py[dest=me, actname=post]\n[")}
    )
    action = load(directory).jails[0].actions[0]
    assert (action.name, action.actname, dict(action.options)) == ("smtp.py", "post", {"dest": "me"})
    assert action.file == str(directory / "action.d" / "smtp.py")


def test_no_configuration_is_an_error_that_names_the_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "none", tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigErrors, match=f"{directory}.*/etc/fail2ban"):
            load(directory)


def test_load_filter(tmp_path: Path) -> None:
    text = "[Definition]\nfailregex = <r-<mode>> <logtype>\nr-a = A\nr-b = B\nmode = a\n"
    directory = write(tmp_path, {"filter.d/fil.conf": text})
    assert load_filter(directory, "fil")[0].failregex == ("A file",)
    spec, remarks = load_filter(directory, "fil[mode=b]", logtype="journal")
    assert (spec.failregex, spec.logtype, remarks) == (("B journal",), "journal", ())
    for call, says in (("fill", "did you mean `fil`"), ("fil[", "expected"), ("fil[mode=<mode>]", "back to itself")):
        with pytest.raises(ConfigErrors, match=says):
            load_filter(directory, call)


def test_hostile_directories_end_with_clear_words(tmp_path: Path) -> None:
    chain = {
        f"c{number}.conf": f"[INCLUDES]\nbefore = c{number + 1}.conf\n  c{number + 1}.conf\n" for number in range(60)
    }
    bomb = "".join(f"x{n} = %(x{n + 1})s%(x{n + 1})s\n" for n in range(40)) + "x40 = y\n"
    tags = "".join(f"y{n} = <y{n + 1}><y{n + 1}>\n" for n in range(40)) + "y40 = <HOST>\n"
    links = tmp_path / "links"
    links.mkdir()
    (links / "jail.conf").symlink_to("jail.conf")
    cases: list[tuple[dict[str, str | bytes], str]] = [
        ({"jail.local": "[INCLUDES]\nbefore = c0.conf\n" + ON, **chain}, "more than 500 files"),
        ({"jail.local": ON + f"ignoreip = %(x0)s\n{bomb}"}, "replacements"),
        ({"jail.local": ON, "filter.d/fil.conf": f"[Definition]\nfailregex = <y0>\n{tags}"}, "grows beyond"),
        ({"jail.local": "[INCLUDES]\nbefore = /dev/zero\n" + ON}, "no regular file"),
        (
            {"jail.local": "[INCLUDES]\nbefore = " + "\n  ".join(f"n{n}" for n in range(9999)) + "\n" + ON},
            "more than 500",
        ),
        ({"jail.local": ON + "".join(f"[j{n}]\nenabled = true\n" for n in range(3000))}, "more than 2000"),
        ({"jail.local": ON + "".join(f"maxretr{n} = 1\n" for n in range(50_000))}, "is no option"),
        ({"jail.local": ON + "[x]\nenabled = 1\nfilter = \0\n"}, r"`\x00`"),
        ({"jail.local": "[INCLUDES]\nbefore = \0\n  .\n  ..\n  /\n  " + "x" * 5000 + "\n" + ON}, "cannot be read"),
    ]
    for number, (files, says) in enumerate(cases):
        start = time.perf_counter()
        loaded = load(write(tmp_path / str(number), files))
        assert time.perf_counter() - start < 20, says
        assert any(says in remark.text for remark in loaded.remarks), [remark.text[:200] for remark in loaded.remarks]
        assert all(len(remark.text) < 1100 and remark.text.isprintable() for remark in loaded.remarks)
    assert load(links).jails == ()


def test_included_circles_are_read_once_around(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "jail.local": "[INCLUDES]\nbefore = deep/a.conf\n" + ON,
        "deep/a.conf": "[INCLUDES]\nafter = ../jail.local\n[DEFAULT]\nport = 1\n",
    }
    loaded = load(write(tmp_path, files))
    assert names(loaded) == ["one", "two"]
    assert loaded.jails[0].port == "1"
