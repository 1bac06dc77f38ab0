"""Who behaves like a person with a browser. Pure."""

from __future__ import annotations

from tocsin.explain.load import Key, Load, kind_of
from tocsin.explain.model import Profile

_LEAST_BEFORE = 50
_HARDLY_ANY = 0.02
_ANYWHERE = frozenset(("/favicon.ico", "/robots.txt"))
"""What is asked of any host, whatever its pages are made of."""


def has_no_files(load: Load) -> bool:
    """Whether these logs have next to no files of pages in ordinary times either: a CDN or another host serves them."""
    before = sum(cell.before for cell in load.cells.values())
    files = sum(cell.before for key, cell in load.cells.items() if cell.before and _is_file(key))
    return before >= _LEAST_BEFORE and files <= _HARDLY_ANY * before


def _is_file(key: Key) -> bool:
    return kind_of(*key[:3]) == "asset" and key[1] not in _ANYWHERE


def fetched_files(profile: Profile) -> bool:
    """Whether an address fetched what pages are made of."""
    return profile.assets >= 2 and profile.assets >= 0.2 * profile.pages


def is_visitor(profile: Profile, *, files_elsewhere: bool, answered: int = 1) -> bool:
    """Whether an address fetched what pages are made of, or followed links. Where the files are in the same log, links
    count only of whom no more than so many requests were `answered`, not most of them POST: others would have fetched
    some. A form names the page that it stands on: the referer of a POST proves no link.
    """
    if fetched_files(profile):
        return True
    if profile.pages < 2 or profile.referred - profile.posts < 2:
        return False
    if files_elsewhere or profile.assets:
        return True
    return profile.requests - profile.failed <= answered and 2 * profile.posts < profile.requests
