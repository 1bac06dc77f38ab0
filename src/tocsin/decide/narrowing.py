"""Makes the description of an excess as narrow as what it is of allows, where that hits fewer others. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tocsin.detect.asked import BROWSERS
from tocsin.detect.contrast import DIMENSIONS, Cell, Description, Feature, is_browser, narrowed

POST = ("method", "POST")
CLAIMING_SHARE = 0.97  # of what is asked for now
POSTS_SHARE = 0.1  # of the requests for a page: then it is the posts that are met
SAFE = frozenset(("method", "path", "query"))
RISKY = frozenset(("user_agent", "vhost"))  # what narrows a description only where it was rare before


def narrowing(cells: list[Cell]) -> Callable[[Description], Description]:
    """What makes a description as narrow as what it is of allows, where that hits fewer others."""
    now = [cell for cell in cells if cell.now]
    usual = Counter(feature for cell in cells if cell.before for feature in cell.features if feature[0] in RISKY)

    def useful(one: Feature) -> bool:
        return one[0] in SAFE or (one[0] in RISKY and usual[one] <= 2)

    def narrow(description: Description) -> Description:
        wanted = set(description)
        such = [cell for cell in now if wanted <= set(cell.features)]
        found = dict(narrowed(description, such, useful))
        if "path" in found and "method" not in found:
            posts = sum(cell.now_cost for cell in such if POST in cell.features)
            if posts >= POSTS_SHARE * sum(cell.now_cost for cell in such):
                found["method"] = "POST"  # the form is asked for by everybody who has a right to post it
        if "user_agent" not in found and _only_browsers(set(found.items()), cells):
            found["user_agent"] = BROWSERS[1]
        return tuple((dimension, found[dimension]) for dimension in DIMENSIONS if dimension in found)

    return narrow


def _only_browsers(wanted: set[Feature], cells: list[Cell]) -> bool:
    """Whether who sends such requests now claims to be a browser, and others did before: the site's apps."""
    now = others = total = 0.0
    for cell in cells:
        if wanted <= set(cell.features):
            claims = any(name == BROWSERS[0] and is_browser(value) for name, value in cell.features)
            total += cell.now_cost
            now += cell.now_cost * claims
            others += cell.before * (not claims)
    return others > 0 and now >= CLAIMING_SHARE * total
