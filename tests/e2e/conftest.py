"""What the tests with namespaces share. Where namespaces cannot be made they are skipped, but not in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from enforcing import Running, Site, enforcing, make_site
from netns import missing


@pytest.fixture
def site() -> Iterator[Site]:
    """Three namespaces in a row, wired: outside, server, behind."""
    if reason := missing():
        text = f"needs network namespaces with nftables, as root or in a user namespace: {reason}"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    with make_site() as made:
        yield made


@pytest.fixture
def running(site: Site) -> Iterator[Running]:
    """An enforcer at work in the server's namespace."""
    with enforcing(site.server, allow=["10.66.0.200", "2001:db8:c::/64"]) as one:
        yield one
