"""Whether a class of requests guesses at logins. Pure."""

from __future__ import annotations

import re

from tocsin.explain.model import Group
from tocsin.explain.suspects import Carried
from tocsin.model import Signature

_LOGIN = re.compile(
    r"(?:^|[/_.?=&-])(?:wp-login|log-?in|sign-?in|signon|auth|authenticate|authentication|sessions?|j_security_check"
    r"|my-account)(?:[/_.?=&-]|$)"
)
"""Paths at which one proves who one is; to post there is to guess."""

_BESIDE = "/xmlrpc.php"
"""Takes passwords, too, and much else: it counts where others are guessed at as well."""

_MOST = 0.7
_HALF = 0.4
"""Of the requests that go to one login page, as many are POST where each guess asks for the form first."""


def guesses_at_logins(one: Carried) -> bool:
    """Whether a class is of POSTs to a login, or most of its POSTs are, and POSTs are most of it; of one login page the
    form may have been asked for, too.
    """
    signature = one.signature
    names_login = is_login(signature)
    if names_login and signature.method == "POST":
        return True
    posts = [group for group in one.groups if group.method == "POST"]
    number = sum(group.requests for group in posts)
    if not number or number < (_HALF if names_login else _MOST) * one.requests:
        return False
    at_login = sum(group.requests for group in posts if is_login(group))
    beside = sum(group.requests for group in posts if group.path.endswith(_BESIDE))
    return at_login > beside and at_login + beside >= _MOST * number


def is_login(asked: Signature | Group) -> bool:
    """Whether this is asked of a page at which one proves who one is."""
    return _LOGIN.search(f"{asked.path or ''}?{asked.query or ''}") is not None
