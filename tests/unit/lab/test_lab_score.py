"""The lab's judge: what counts as the right suspect, what as a false accusation; and the baselines beside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "lab"))

import baselines
import matching
import score

NONE = {"method": None, "path": None, "query": None, "vhost": None, "user_agent": None}
XMLRPC = {**NONE, "method": "POST", "path": "/blog/xmlrpc.php", "user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}
SEARCH = {**NONE, "method": "GET", "path": "/", "query": "s="}


@pytest.mark.parametrize(
    ("truth", "ours", "right"),
    [
        (XMLRPC, {"method": "POST", "path": "/blog/xmlrpc.php"}, True),
        (XMLRPC, {"method": "POST", "path": "/*/xmlrpc.php", "user_agent": "Googlebot"}, True),
        (XMLRPC, {"path": "/*"}, False),
        (XMLRPC, {"method": "GET", "path": "/blog/xmlrpc.php"}, False),
        (XMLRPC, {"method": "POST", "path": "/blog/xmlrpc.php", "user_agent": "bingbot"}, False),
        (XMLRPC, {"method": "POST"}, False),
        (XMLRPC, None, False),
        (SEARCH, {"method": "GET", "path": "/", "query": "?s=", "vhost": "www.site.example"}, True),
        (SEARCH, {"method": "GET", "path": "/"}, False),
        ({**NONE, "user_agent": "Scrapy"}, {"path": "/*", "user_agent": "Scrapy/2.11.2 (+https://scrapy.org)"}, True),
        ({**NONE, "user_agent": "Scrapy"}, {"path": "/"}, False),
    ],
)
def test_signatures(truth: dict[str, Any], ours: dict[str, Any] | None, right: bool) -> None:
    assert matching.signature_right(truth, ours) is right


def truth(scenario: str, cause: str | None, **fields: Any) -> dict[str, Any]:
    """A truth.json in short."""
    return {
        "scenario": scenario, "cause": cause, "signature": NONE, "process": None, "attackers": ["203.0.113.7"],
        "visitors": ["198.51.100.1", "198.51.100.2"], "crawlers": ["192.0.2.66"], "others": {"app": ["192.0.2.9"]},
        "start": 1000.0, "end": 1060.0, **fields,
    }  # fmt: skip


def verdict(cause: str, *suspects: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A document of explain with one incident."""
    one = {
        "start": 1010.0,
        "end": 1100.0,
        "onset": 1004.0,
        "cause": cause,
        "confidence": 0.9,
        "suspects": list(suspects),
    }
    return {"incidents": [{**one, "ban": [], "deny": [], **fields}], "quiet": False}


def test_cause_and_suspect_have_to_be_right_together() -> None:
    said = {"kind": "requests", "signature": {"method": "POST", "path": "/blog/xmlrpc.php"}}
    other = {"kind": "requests", "signature": {"method": "GET", "path": "/"}}
    flood = truth("xmlrpc-flood", "request-flood", signature=XMLRPC)
    judged = score.judge(flood, verdict("request-flood", other, said), [])
    assert (judged.first, judged.third, judged.onset_error_s) == (False, True, 4.0)
    judged = score.judge(flood, verdict("crawler", said), [])
    assert (judged.first, judged.third, judged.suspect_first) == (False, False, True)
    assert score.judge(flood, {}, []).said == "nothing"


def test_a_job_is_known_by_its_process_and_bans_nobody() -> None:
    job = truth("local-job", "local-job", process="convert-images", attackers=[])
    right = {"kind": "process", "process": "/usr/local/bin/convert-images"}
    judged = score.judge(job, verdict("local-job", right, ban=["198.51.100.0/24"]), [])
    assert judged.first
    assert judged.accused
    assert judged.wrongly_banned == ["198.51.100.1", "198.51.100.2"]
    assert not score.judge(job, verdict("local-job", {"kind": "process", "process": "mariadbd"}), []).first


def test_a_quiet_day_has_to_be_called_quiet() -> None:
    day = truth("quiet", None, attackers=[])
    assert score.judge(day, {"incidents": [], "quiet": True}, []).right
    assert not score.judge(day, verdict("unknown"), []).right


def lines() -> list[str]:
    """Two visitors and a feed reader over twenty minutes, then three addresses that post and a server that fails."""
    agent = '"-" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"'
    stamp = "[19/Nov/2026:10:{:02}:{:02} +0000]"
    made = [
        f'198.51.100.{1 + i % 2} - - {stamp.format(i // 6, i % 6 * 10)} "GET /post-{i} HTTP/1.1" 200 512 {agent}'
        for i in range(120)
    ]
    made += [
        f'www.site.example:80 192.0.2.9 - - {stamp.format(i, 5)} "GET /feed/ HTTP/1.1" 200 99 {agent}'
        for i in range(20)
    ]
    for i in range(30):
        head = f"203.0.113.{7 + i % 3} - - {stamp.format(20, i)}"
        made.append(f'{head} "POST /blog/xmlrpc.php HTTP/1.0" {500 if i > 20 else 200} 370 {agent} {i * 99}')
    return [*made, "garbage", '198.51.100.1 - - [19/Nov/2026:10:20:40 +0000] "\\x16\\x03" 400 0 "-" "-"']


def test_baselines(tmp_path: Path) -> None:
    log = tmp_path / "var" / "log" / "apache2" / "access.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(lines()))
    found = baselines.hits(tmp_path)
    assert len(found) == 171
    assert baselines.first_symptom(found, 0.0) == found[-1].ts - 19
    flood = truth("xmlrpc-flood", "request-flood", signature=XMLRPC, end=found[-1].ts)
    flood["attackers"] = ["203.0.113.7", "203.0.113.8", "203.0.113.9"]
    said = {name: (first, third) for name, first, third in baselines.verdicts(flood, found)}
    assert said["hits, by address"] == (False, False)
    assert said["hits, by class"] == (True, True)
    assert said["ratio, by address"] == (True, True)
    one, three = baselines.chance(flood, found)
    assert one == pytest.approx(3 / 6)
    assert three == pytest.approx(1 - 1 / 20)
