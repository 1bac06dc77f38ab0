"""One run: a drawn scenario on a server of its own, from the first start to a finished case."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import msgspec

from case import write_truth
from faults import Faults
from scenarios import Scenario, draw
from server import Server

HERE = Path(__file__).resolve().parent
SLOW_S, FELL_SHARE = 10.0, 0.2
AFTER_PLAN_S = 40.0
CROWD = ("monitor", "app", "admin", "feed", "probe")


def run(name: str, seed: int, out: Path) -> dict[str, Any]:
    """Make the case OUT/NAME-SEED, anew if there is one; its truth."""
    scenario = draw(name, seed)
    case = out / f"{name}-{seed}"
    shutil.rmtree(case, ignore_errors=True)
    case.mkdir(parents=True)
    hostname = scenario.stack.vhost.split(".")[0].replace("www", "web")[:12] or "web"
    try:
        with Server(scenario.stack, hostname) as server:
            faults = Faults(server)
            seen = play(scenario, server, faults)
            free(scenario, server, faults, seen)
            server.collect(case / "logs")
            truth = finish(scenario, server, faults, seen)
        write_truth(case, truth)
    except BaseException:
        shutil.rmtree(case)
        raise
    return truth


def play(scenario: Scenario, server: Server, faults: Faults) -> dict[str, Any]:
    """The traffic, and the faults at their moments; what the traffic's program has seen."""
    server.open_prefixes(scenario.prefixes)
    home = server.space.home
    plan = {**scenario.plan, "target": server.address, "port": 80, "site": msgspec.to_builtins(server.site)}
    (home / "plan.json").write_text(json.dumps(plan))
    enter = ["nsenter", f"--net=/run/netns/{server.clients_netns}", sys.executable, str(HERE / "traffic.py")]
    with (home / "traffic.err").open("wb") as errors:
        traffic = subprocess.Popen(
            [*enter, str(home / "plan.json"), str(home / "out.json")],
            stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
        try:
            assert traffic.stdout is not None
            start_ts = float(traffic.stdout.readline().split()[1])
            threading.Thread(target=drain, args=(traffic.stdout,), daemon=True).start()
            carry_out(scenario, faults, start_ts, traffic)
        except IndexError:
            raise RuntimeError(f"the traffic did not start: {(home / 'traffic.err').read_text()[-2000:]}") from None
        finally:
            if traffic.poll() is None:
                traffic.kill()
                traffic.wait()
    if traffic.returncode != 0:
        raise RuntimeError(f"the traffic failed ({traffic.returncode}): {(home / 'traffic.err').read_text()[-2000:]}")
    seen = json.loads((home / "out.json").read_text())
    if not isinstance(seen, dict):
        raise TypeError("the traffic's report is no object")
    return seen


def drain(lines: IO[bytes]) -> None:
    """Read to the end, so that the writer never waits for us."""
    for _ in lines:
        continue


def carry_out(scenario: Scenario, faults: Faults, start_ts: float, traffic: subprocess.Popen[bytes]) -> None:
    """Each fault at its moment, until the traffic has ended (or should have)."""
    waiting = sorted(scenario.faults, key=lambda fault: fault.at_s)
    end_s = scenario.plan["seconds"] + AFTER_PLAN_S
    while traffic.poll() is None and time.time() - start_ts < end_s:
        while waiting and time.time() - start_ts >= waiting[0].at_s:
            fault = waiting.pop(0)
            faults.do(fault.kind, fault.params)
        faults.look()
        time.sleep(0.1)


def free(scenario: Scenario, server: Server, faults: Faults, seen: dict[str, Any]) -> None:
    """Restart the web server where all its services live and nobody got a page since the fault ended, as its owner
    would: no logs were ever read on a server that hangs.
    """
    loads = parts(seen["loads"], float(scenario.truth["start_s"]), float(scenario.truth["end_s"]))
    if scenario.truth["expect"] == "incident" and not loads["after"]["ok"] and not server.dead():
        faults.do("restart-web", {})


def finish(scenario: Scenario, server: Server, faults: Faults, seen: dict[str, Any]) -> dict[str, Any]:
    """The truth of the run: what was meant, and what was measured."""
    truth = dict(scenario.truth)
    start_s, end_s, start_ts = float(truth.pop("start_s")), float(truth.pop("end_s")), float(seen["start_ts"])
    loads = parts(seen["loads"], start_s, end_s)
    services = server.supervisor.services.values()
    deaths = sum(service.failures for service in services)
    during = loads["during"]
    lost = during["failed"] + during["slow"]
    kills = server.oom_kills()
    fell = bool(kills or deaths or server.dead()) or (lost > 0 and lost >= FELL_SHARE * sum(during.values()))
    roles = seen["roles"]
    return {
        **truth,
        "attackers": roles.get("attacker", []),
        "visitors": roles.get("visitor", []),
        "crawlers": roles.get("crawler", []),
        "others": {**{role: roles.get(role, []) for role in CROWD}, "self": [server.address, "::1"]},
        "start": start_ts + start_s,
        "end": start_ts + end_s,
        "fell": fell,
        "measured": {
            "loads": loads,
            "oom_kills": kills,
            "service_failures": deaths,
            "dead_at_end": server.dead(),
            "syslog_lines_lost": server.syslog.lost,
            "snapshots_failed": server.samples.failed,
            "sent": seen.get("sent", {}),
            "faults": [[round(ts - start_ts, 1), what] for ts, what in faults.told],
        },
    }


def parts(loads: list[list[Any]], start_s: float, end_s: float) -> dict[str, dict[str, int]]:
    """Visitors' page loads that came off, failed, or took longer than a person waits, before, during and after."""
    counts = {part: {"ok": 0, "failed": 0, "slow": 0} for part in ("before", "during", "after")}
    for began_s, good, seconds in loads:
        part = "before" if began_s < start_s else "during" if began_s < end_s else "after"
        counts[part]["failed" if not good else "slow" if seconds > SLOW_S else "ok"] += 1
    return counts
