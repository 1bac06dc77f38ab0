"""Crowds that do no harm, in words: what tells that they are none of an attacker's. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.explain.load import Load
from tocsin.explain.model import Said, Value, say
from tocsin.explain.returning import (
    came_before,
    fetches_repositories,
    fetches_what_was_shared,
    previews_what_was_shared,
)
from tocsin.explain.suspects import Carried
from tocsin.explain.visitors import has_no_files

VISITORS = 0.5
"""A class is visitors where addresses that behave so sent so much of it."""


def why_surge(load: Load, one: Carried, facts: Mapping[str, Value]) -> Said:
    """Why a class is a surge: its numbers, and who sent it."""
    if one.visitors >= VISITORS:
        return _of_visitors(load, facts)
    if fetches_repositories(load, one):
        return say(
            "{requests} requests in {span:span} by {addresses} addresses, most of them git's own, which fetches "
            "repositories and was answered; {share:share} of the excess load, {lift:times} the usual",
            **facts,
        )
    if previews_what_was_shared(one):
        return say(
            "{requests} requests in {span:span} by {addresses} addresses, most of them servers of the fediverse, each "
            "for a preview of what was shared; {share:share} of the excess load, {lift:times} the usual",
            **facts,
        )
    if fetches_what_was_shared(load, one):
        return say(
            "{requests} requests in {span:span} by {addresses} addresses, one of each for the same, while many more "
            "visitors than usual read what it belongs to; {share:share} of the excess load, {lift:times} the usual",
            **facts,
        )
    if came_before(load, one):
        return say(
            "{requests} requests in {span:span} by {addresses} addresses, most of which had sent the same before and "
            "were answered; {share:share} of the excess load, {lift:times} the usual",
            **facts,
        )
    return say(
        "{requests} requests in {span:span} by {addresses} addresses with browsers of several kinds, as readers of a "
        "letter or an advertisement come; {share:share} of the excess load, {lift:times} the usual",
        **facts,
    )


def _of_visitors(load: Load, facts: Mapping[str, Value]) -> Said:
    if has_no_files(load):
        return say(
            "{requests} requests in {span:span} by {addresses} addresses that follow links from page to page, as "
            "visitors do; {share:share} of the excess load, {lift:times} the usual",
            **facts,
        )
    return say(
        "{requests} requests in {span:span} by {addresses} addresses that fetch pages with their files, as browsers "
        "do; {share:share} of the excess load, {lift:times} the usual",
        **facts,
    )
