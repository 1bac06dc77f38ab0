"""A run while it is being drawn: what the parts of a draw add to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

import draws
from stack import Stack


class Fault(msgspec.Struct):
    """Something that is done to the server at a moment of the run."""

    at_s: float
    kind: str
    params: dict[str, Any]


class Draft(msgspec.Struct, kw_only=True):
    """`nets` are the visitors' networks, `used` every address that a phase may use, `notes` what truth.json tells."""

    rng: random.Random
    seed: int
    stack: Stack
    nets: list[str]
    before_s: int = 0
    attack_s: int = 0
    after_s: int = 0
    phases: list[dict[str, Any]] = []
    faults: list[Fault] = []
    used: set[str] = set()
    signature: dict[str, str] = {}
    process: str | None = None
    notes: dict[str, Any] = {}

    @property
    def seconds(self) -> int:
        """How long the traffic runs."""
        return self.before_s + self.attack_s + self.after_s

    def some(self, nets: Sequence[str], count: int) -> list[str]:
        """Addresses of these networks that nobody has yet."""
        fresh = [each for each in draws.addresses(self.rng, nets, count + len(self.used)) if each not in self.used]
        self.used.update(fresh[:count])
        return fresh[:count]

    def fresh_nets(self, count: int) -> list[str]:
        """Networks of which some may be visitors' too."""
        own = draws.networks(self.rng, count)
        return [*own, *self.rng.sample(self.nets, max(1, count // 4))]

    def phase(self, kind: str, start_s: float, end_s: float, addresses: list[str], **params: Any) -> None:
        """Add a phase to the plan."""
        self.used.update(addresses)
        seed = self.rng.randrange(1 << 30)
        self.phases.append(
            {"kind": kind, "start_s": start_s, "end_s": end_s, "addresses": addresses, "seed": seed, **params}
        )

    def attack(self, kind: str, addresses: list[str], **params: Any) -> None:
        """Add the attack's phase, and note it for truth.json."""
        told = {name: value for name, value in params.items() if name not in ("users", "froms")}
        self.notes["attack"] = {"kind": kind, "addresses": len(addresses), **told}
        self.phase(kind, self.before_s, self.before_s + self.attack_s, addresses, **params)

    def fault(self, at_s: float, kind: str, **params: Any) -> None:
        """Add something that is done to the server."""
        self.faults.append(Fault(float(at_s), kind, params))
