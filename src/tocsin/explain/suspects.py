"""Requests that may have brought the server down: classes that carry the excess, and who sent them. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from tocsin.detect.contrast import Cell, Contrast, Description, Feature, contrasts, holds, narrowed
from tocsin.explain.load import Key, Load, key_of
from tocsin.explain.model import Group, Profile
from tocsin.explain.visitors import has_no_files, is_visitor
from tocsin.model import Signature
from tocsin.rules.compiled import subject_of

SUBJECT = subject_of(32, 64)
"""How an address is counted and banned: IPv6 by /64."""

_AGAIN = 0.1
"""So large a part of a class must be reloads for it to be looked at without them."""

_ANY: Feature = ("query", "=")
_SAME = 0.5
"""Descriptions that share more than this of their kinds of requests say the same."""


class Carried(Struct, frozen=True):
    """A class of requests in an outage, with what is needed to judge it.

    `addresses` maps each (IPv6: its /64) to its requests of the class; `visitors` is the share of them by addresses
    that behave like visitors, `spill` the share of what went before that the class matches, too; `first_ts` and
    `last_ts` are when the first and the last of them began.
    """

    contrast: Contrast
    signature: Signature
    groups: tuple[Group, ...]
    addresses: dict[str, int]
    agents: Counter[str]
    requests: int
    visitors: float
    spill: float
    first_ts: float
    last_ts: float

    @property
    def each(self) -> float:
        """Requests of an address, on average."""
        return self.requests / max(1, len(self.addresses))

    @property
    def topmost(self) -> float:
        """The share of the requests that the ten busiest addresses sent."""
        return sum(sorted(self.addresses.values(), reverse=True)[:10]) / max(1, self.requests)


def carried(load: Load, profiles: Mapping[str, Profile], limit: int = 4) -> list[Carried]:
    """The classes that carry an outage's excess, the likeliest first, none that says what a better one says."""
    cells = list(load.cells.values())
    found: list[Carried] = []
    taken: list[set[Key]] = []
    ranked = contrasts(cells, load.now_s, load.before_s, limit=40)
    ranked = [*_without_reloads(load, ranked), *ranked]
    wanted = {feature for contrast in ranked for feature in contrast.features}
    holders: defaultdict[Feature, dict[Key, Cell]] = defaultdict(dict)  # each is looked at once, not once a description
    for key, cell in load.cells.items():
        for feature in wanted.intersection(cell.features):
            holders[feature][key] = cell
    useful = _Useful(load)
    for contrast in ranked:
        useful.described = bool(contrast.features)
        first, *rest = sorted((holders[one] for one in contrast.features), key=len) or [load.cells]
        described = {key: cell for key, cell in first.items() if all(key in other for other in rest)}
        description = _named(narrowed(contrast.features, described.values(), useful), described.values())
        keys = {key for key, cell in described.items() if cell.now and holds(description, cell)}
        if keys and not any(len(keys & other) > _SAME * min(len(keys), len(other)) for other in taken):
            taken.append(keys)
            before = sum(cell.before for cell in described.values() if holds(description, cell))
            spill = before / max(1, sum(cell.before for cell in cells))
            found.append(_carried(load, contrast, description, keys, profiles, spill))
            if len(found) == limit:
                break
    return found


def _named(description: Description, cells: Iterable[Cell]) -> Description:
    """With the name that all of its queries have, where it says no more of them than that there is one."""
    if _ANY not in description:
        return description
    matched = [cell.features for cell in cells if cell.now and holds(description, cell)]
    names = (
        {feature for feature in set(matched[0]).intersection(*matched) if feature[0] == "query"} if matched else set()
    )
    name = max((value for _, value in names if value.endswith("=")), key=lambda value: (len(value), value), default="=")
    return tuple(("query", name) if feature == _ANY else feature for feature in description)


def _without_reloads(load: Load, ranked: Sequence[Contrast]) -> list[Contrast]:
    """A description that says more than the best, and is part of it, once what was only tried again is left out."""
    if not ranked:
        return []
    best = ranked[0]
    again = sum(number for key, number in load.reloads.items() if holds(best.features, load.cells[key]))
    if again < _AGAIN * best.now:
        return []
    cells = [_less(cell, load.reloads[key]) for key, cell in load.cells.items()]
    for one in contrasts(cells, load.now_s, load.before_s, limit=40):
        if one.score <= best.score or one.features == best.features:
            break
        if all(holds(best.features, cell) for cell in cells if cell.now and holds(one.features, cell)):
            return [one]
    return []


def _less(cell: Cell, number: int) -> Cell:
    """A cell without so many of its requests of now."""
    if not number:
        return cell
    return structs.replace(cell, now=cell.now - number, now_cost=cell.now_cost * (1 - number / cell.now))


class _Useful:
    """Whether a value narrows a description: it is rare in what went before."""

    def __init__(self, load: Load) -> None:
        self._ratio = load.now_s / load.before_s if load.before_s else 0.0
        self._now: Counter[Feature] = Counter()
        self._before: Counter[Feature] = Counter()
        self.described = True
        for cell in load.cells.values():
            for feature in cell.features:
                if feature[0] in {"user_agent", "vhost"}:
                    self._now[feature] += cell.now
                    self._before[feature] += cell.before
        self._vhosts = sum(1 for feature in self._now | self._before if feature[0] == "vhost")

    def __call__(self, feature: Feature) -> bool:
        if feature[0] == "vhost":
            return self._vhosts > 1
        if feature[0] == "user_agent":
            return self._ratio * self._before[feature] <= 0.05 * self._now[feature]
        return self.described


def _carried(
    load: Load,
    contrast: Contrast,
    description: Description,
    keys: set[Key],
    profiles: Mapping[str, Profile],
    spill: float,
) -> Carried:
    groups = tuple(group for group in load.groups if key_of(group) in keys)
    addresses: Counter[str] = Counter()
    agents: Counter[str] = Counter()
    visiting, files_elsewhere = 0, has_no_files(load)
    for group in groups:
        agents[group.user_agent or ""] += group.requests
        addresses[SUBJECT(group.source_ip) if group.source_ip else ""] += group.requests
        profile = profiles.get(SUBJECT(group.source_ip)) if group.source_ip else None
        visiting += group.requests * (profile is not None and is_visitor(profile, files_elsewhere=files_elsewhere))
    requests = sum(group.requests for group in groups)
    del addresses[""]
    return Carried(
        contrast,
        Signature(**dict(description)),
        groups,
        dict(addresses.most_common()),
        agents,
        requests,
        visiting / max(1, requests),
        spill,
        min(group.first_ts for group in groups),
        max(group.last_ts for group in groups),
    )


def by_subject(profiles: Iterable[Profile]) -> dict[str, Profile]:
    """Profiles by how an address is counted; of several in one /64, a visitor's."""
    found: dict[str, Profile] = {}
    for one in profiles:
        subject = SUBJECT(one.source_ip)
        if subject not in found or is_visitor(one, files_elsewhere=True):
            found[subject] = one
    return found
