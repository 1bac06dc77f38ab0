"""What the crowd's bench has from the lab: its names and agents (one list of what is real), what it wants installed."""

from __future__ import annotations

import sys

from measuring import ROOT

sys.path.append(str(ROOT))

from lab.draws import (
    APPS,
    BINGBOT,
    FALSE_GOOGLEBOTS,
    FEED_READERS,
    GOOGLEBOT,
    GOOGLEBOT_MOBILE,
    MONITORS,
    NAMES,
    NEWS_SITES,
    NOT_PUBLIC,
    OLD_BROWSERS,
    PROBES,
    SEARCHES,
    WORDS,
    browser,
    networks,
    words,
)
from lab.setup import missing as missing_packages

__all__ = (
    "APPS", "BINGBOT", "FALSE_GOOGLEBOTS", "FEED_READERS", "GOOGLEBOT", "GOOGLEBOT_MOBILE", "MONITORS", "NAMES",
    "NEWS_SITES", "NOT_PUBLIC", "OLD_BROWSERS", "PROBES", "SEARCHES", "WORDS", "browser", "missing_packages",
    "networks", "words",
)  # fmt: skip
