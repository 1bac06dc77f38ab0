"""Whether a verdict of `explain` names what a case's truth says: the cause, the class of requests, the process."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from baselines import Hit

Document = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Kinds of suspect that fit a cause for which truth names neither requests nor a process.
KINDS = {
    "slow-connections": {"connections"},
    "legitimate-surge": {"requests", "limit"},
    "disk-full": {"storage"},
    "crash": {"process", "limit"},
}


def glob(pattern: str, path: str) -> bool:
    """Whether a path fits ours, in which `*` stands for a segment or a part of one."""
    return re.fullmatch(r"[^/]*".join(map(re.escape, pattern.split("*"))), path) is not None


def overlaps(ours: str, theirs: str) -> bool:
    """Whether either contains the other."""
    return ours in theirs or theirs in ours


FITS: dict[str, Callable[[str, str], bool]] = {"path": glob, "query": overlaps, "user_agent": overlaps}


def signature_right(truth: Document, ours: Document | None) -> bool:
    """Whether no field contradicts and the field that sets the attack apart is among ours.

    That is the query where truth has one, else the path, or the user agent for both where truth has one. Fields that
    truth does not give may be narrowed as we like; method and virtual host may be left out.
    """
    said = {field: value for field, value in (ours or {}).items() if value}
    known = {field: value for field, value in truth.items() if value}
    shared = said.keys() & known.keys()
    if not all(FITS.get(field, str.__eq__)(said[field], known[field]) for field in shared):
        return False
    apart = next((field for field in ("query", "path", "user_agent") if field in known), None)
    return apart in shared or "user_agent" in shared


def suspect_right(truth: Document, suspect: Document) -> bool:
    """Whether a suspect is what truth blames."""
    if any(truth["signature"].values()):
        if signature_right(truth["signature"], suspect.get("signature")):
            return True
        # A crawler is one client: its address names it as well as its agent does.
        first = [actor["subject"] for actor in suspect.get("actors", [])[:1]]
        return truth["cause"] == "crawler" and suspect.get("kind") == "requests" and any(
            covers(first, address) for address in truth["attackers"]
        )  # fmt: skip
    if truth["process"]:
        named = (suspect.get("process") or "").rsplit("/", 1)[-1]
        return bool(named) and (named.startswith(truth["process"][:15]) or truth["process"].startswith(named))
    return suspect.get("kind") in KINDS.get(truth["cause"], set())


def networks(subjects: list[str]) -> list[Network]:
    """Addresses and prefixes as networks."""
    return [ipaddress.ip_network(subject, strict=False) for subject in subjects]


def covers(subjects: list[str], address: str) -> bool:
    """Whether one of the subjects is this address, or a prefix that holds it."""
    return any(ipaddress.ip_address(address) in network for network in networks(subjects))


def covered(subjects: list[str], addresses: list[str]) -> list[str]:
    """Those of the addresses that the subjects cover."""
    nets = networks(subjects)
    hosts = {net.network_address for net in nets if net.prefixlen == net.max_prefixlen}
    wide = [net for net in nets if net.prefixlen < net.max_prefixlen]
    return [
        each for each in addresses if (one := ipaddress.ip_address(each)) in hosts or any(one in net for net in wide)
    ]  # fmt: skip


def has_pair(part: str, query: str) -> bool:
    """Whether a query has a pair, or with `=` at the end, one of that name."""
    return f"{'' if part[0] == '=' else '&'}{part}{'' if part[-1] == '=' else '&'}" in f"&{query}&"


def denies(signature: Document, hit: Hit) -> bool:
    """Whether a signature would have refused this request (the virtual host is not in every log: it counts for yes)."""
    return (
        (not signature.get("method") or signature["method"] == hit.method)
        and (not signature.get("path") or glob(signature["path"], hit.path))
        and (not signature.get("query") or has_pair(signature["query"], hit.query))
        and (not signature.get("user_agent") or signature["user_agent"] in hit.agent)
    )
