"""Classes that a method alone describes: what in them rose, so that whoever sends anything is not accused. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from msgspec import structs

from tocsin.detect.contrast import path_shapes, query_parts
from tocsin.explain.load import Load
from tocsin.explain.model import Group
from tocsin.explain.suspects import Carried
from tocsin.model import Signature

_LEAST_SHARE = 0.05
"""A kind that carries less of a class's excess did not bring it about."""

_LEAST_LIFT = 2.0
_ANY = "="
"""Of a query: that it has a name."""


def is_broad(signature: Signature) -> bool:
    """Whether a class says nothing of what is asked for, or by what: half of all visitors may be of it."""
    return not signature.path and signature.query in {None, "", "="} and not signature.user_agent


def risen_kinds(load: Load, one: Carried) -> tuple[Signature, ...]:
    """The kinds of requests (method, path, name in the query) in a broad class that rose themselves, most first. Those
    that differ only in how deep they lie (`/*/*/src/*`, `/*/*/src/*/*`) are one in that; where none rises, those that
    differ only in the name, such as a shop's filters in any order, are one.
    """
    return _risen(load, one, _first_name) or _risen(load, one, _any_name)


def _risen(load: Load, one: Carried, named: Callable[[str], str | None]) -> tuple[Signature, ...]:
    now, before = _counted(one.groups, one.signature, named), _counted(load.before, one.signature, named)
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


def spill_of(load: Load, kinds: Collection[Signature]) -> float:
    """The share of what went before that such kinds of requests were of."""
    return before_of(load, kinds) / max(1, sum(group.requests for group in load.before))


def before_of(load: Load, kinds: Collection[Signature]) -> int:
    """How many requests of such kinds went before."""
    named = _any_name if any(kind.query == _ANY for kind in kinds) else _first_name
    before = _counted(load.before, Signature(), named)
    return sum(before[kind] for kind in kinds)


def _counted(groups: Iterable[Group], broad: Signature, named: Callable[[str], str | None]) -> Counter[Signature]:
    found: Counter[Signature] = Counter()
    for group in groups:
        if broad.method in {None, group.method} and broad.vhost in {None, group.vhost}:
            shape = path_shapes(group.path)[-1]
            found[Signature(group.method, shape, named(group.query), broad.vhost)] += group.requests
    return found


def _first_name(query: str) -> str | None:
    """The first name in a query, as `features_of` has it; None where it has no names."""
    return next((part for part in query_parts(query) if part.endswith("=")), None)


def _any_name(query: str) -> str | None:
    """That a query has a name, whichever."""
    return None if _first_name(query) is None else _ANY
