"""The one process that stays root: what it takes for an order, and what its unit grants it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from tocsin.config_model import Web
from tocsin.enforce.reloader import KEEPS, Reloader, judge
from tocsin.enforce.webfiles import Marker, Order, Result, result_path
from tocsin.enforce.webserver import Denial, nginx_conf
from tocsin.model import Signature

NOW_TS = 1_700_000_000.0
UNIT = Path(__file__).parents[3] / "packaging" / "tocsin-nginx.service"
GOOD = Denial("d", Signature("POST", "/xmlrpc.php"), ("192.0.2.7",), NOW_TS + 60)


@pytest.mark.parametrize(
    "order",
    [
        Order("a b", NOW_TS, (GOOD,)),
        Order("", NOW_TS, (GOOD,)),
        Order("a", NOW_TS, (GOOD,) * 17),
        Order("a", NOW_TS, (msgspec.structs.replace(GOOD, signature=Signature("POST")),)),
        Order("a", NOW_TS, (msgspec.structs.replace(GOOD, spare=("192.0.2.7 1; } evil",)),)),
        Order("a", NOW_TS, (msgspec.structs.replace(GOOD, end_ts=NOW_TS + 1e6),)),
        Order("a", NOW_TS, (GOOD,), ("0.0.0.0/0; include /etc/shadow",)),
        Order("a", NOW_TS, (GOOD,), ("192.0.2.7",)),
    ],
)
def test_an_order_that_nobody_may_give_is_none(order: Order) -> None:
    judge(Order("a1", NOW_TS, (GOOD,), ("192.0.2.0/24", "::1/128")), NOW_TS)
    with pytest.raises(ValueError, match=r"expected|more classes|needs|does not appear"):
        judge(order, NOW_TS)


@pytest.mark.parametrize(("refuses", "said"), [(False, ""), (True, "refused, and taken back: no good")])
def test_what_nginx_refuses_is_taken_back(tmp_path: Path, refuses: bool, said: str) -> None:
    program, conf, log = tmp_path / "nginx", tmp_path / "tocsin.conf", tmp_path / "log"
    fails = 'case "$*" in *-t*) echo no good >&2; exit 1;; esac' if refuses else ""
    program.write_text(f'#!/bin/sh\necho "$*" >>{log}\n{fails}\n')
    program.chmod(0o755)
    conf.write_text("before\n")
    order = Order("a1", 0.0, (GOOD,))
    Reloader(tmp_path, Marker("nginx", str(conf), "/x.conf"), str(program)).bring(order)
    assert log.read_text() == ("-c /x.conf -t -q\n" if refuses else "-c /x.conf -t -q\n-c /x.conf -s reload\n")
    assert ("xmlrpc" in conf.read_text(), conf.read_text() == "before\n") == (not refuses, refuses)
    assert msgspec.json.decode(result_path(conf).read_bytes(), type=Result) == Result("a1", not refuses, said)


def test_the_file_for_nginx_holds_no_text_of_a_request_as_it_came() -> None:
    hostile = Signature("GET", '/a"; } include /etc/passwd; #', "x;${y}", "shop.example", '\\" } évil')
    text = nginx_conf([msgspec.structs.replace(GOOD, signature=hostile)], NOW_TS)
    plain = nginx_conf([msgspec.structs.replace(GOOD, signature=Signature(path="/x"))], NOW_TS)
    found = [line for line in text.splitlines() if line not in plain.splitlines()]
    assert len(found) == 1
    assert re.fullmatch(r'    "~[A-Za-z0-9\\^()?:|+.*\[\]/ -]+" 1;', found[0].replace("$", ""))
    assert " " not in found[0].strip().partition('" ')[0]


def test_the_unit_grants_what_is_kept_and_systemd_accepts_it(tmp_path: Path) -> None:
    lines = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#")
    assert set(lines["CapabilityBoundingSet"].split()) == KEEPS | {"CAP_SETPCAP"}
    assert f"--dir {Web().dir} " in lines["ExecStart"]
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed here")
    file = tmp_path / UNIT.name
    file.write_text(UNIT.read_text().replace("/opt/tocsin/bin/python", "/bin/true"))
    ran = subprocess.run([analyze, "verify", str(file)], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
