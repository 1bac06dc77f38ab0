"""Classes that a method alone describes: what in them rose, so that whoever sends anything is not accused. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import structs

from tocsin.detect.contrast import path_shapes, query_parts
from tocsin.explain.load import Load
from tocsin.explain.model import Group
from tocsin.explain.suspects import Carried
from tocsin.model import Signature

_LEAST_SHARE = 0.05
"""A kind that carries less of a class's excess did not bring it about."""

_LEAST_LIFT = 2.0


def is_broad(signature: Signature) -> bool:
    """Whether a class says nothing of what is asked for, or by what: half of all visitors may be of it."""
    return not signature.path and signature.query in {None, "", "="} and not signature.user_agent


def risen_kinds(load: Load, one: Carried) -> tuple[Signature, ...]:
    """The kinds of requests (method, path, name in the query) in a broad class that rose themselves, most first. Those
    that differ only in how deep they lie (`/*/*/src/*`, `/*/*/src/*/*`) are one in that.
    """
    now, before = _counted(one.groups, one.signature), _counted(load.before, one.signature)
    ratio = load.now_s / load.before_s if load.before_s else 0.0
    excess = max(1.0, now.total() - ratio * before.total())
    number, usual = _at_any_depth(now), _at_any_depth(before)
    return tuple(
        kind
        for kind, _ in now.most_common()
        if number[_stem(kind)] - ratio * usual[_stem(kind)] >= _LEAST_SHARE * excess
        and number[_stem(kind)] >= _LEAST_LIFT * ratio * usual[_stem(kind)]
    )


def _at_any_depth(kinds: Counter[Signature]) -> Counter[Signature]:
    found: Counter[Signature] = Counter()
    for kind, number in kinds.items():
        found[_stem(kind)] += number
    return found


def _stem(kind: Signature) -> Signature:
    path = kind.path or ""
    return structs.replace(kind, path=path.rstrip("/*")) if path.startswith("/*/*/") else kind


def spill_of(load: Load, kinds: Iterable[Signature]) -> float:
    """The share of what went before that such kinds of requests were of."""
    return before_of(load, kinds) / max(1, sum(group.requests for group in load.before))


def before_of(load: Load, kinds: Iterable[Signature]) -> int:
    """How many requests of such kinds went before."""
    before = _counted(load.before, Signature())
    return sum(before[kind] for kind in kinds)


def _counted(groups: Iterable[Group], broad: Signature) -> Counter[Signature]:
    found: Counter[Signature] = Counter()
    for group in groups:
        if broad.method in {None, group.method} and broad.vhost in {None, group.vhost}:
            name = next((part for part in query_parts(group.query) if part.endswith("=")), None)
            found[Signature(group.method, path_shapes(group.path)[-1], name, broad.vhost)] += group.requests
    return found
