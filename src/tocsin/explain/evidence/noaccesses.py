"""What there is to say of requests where there is no access log."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tocsin.explain.model import Group, Profile, Quote, Rate, Step
from tocsin.model import Signature


class NoAccesses:
    """Nothing. See `explain.model.Accesses`."""

    start: float | None = None
    end: float | None = None
    requests = 0
    has_durations = False
    has_user_agents = False

    def rates(self, step_s: float, start: float | None = None, end: float | None = None) -> list[Rate]:  # noqa: ARG002
        """None."""
        return []

    def groups(self, start: float, end: float, limit: int = 200_000) -> list[Group]:  # noqa: ARG002
        """None."""
        return []

    def groups_between(self, edges: Sequence[float]) -> list[list[Group]]:
        """None."""
        return [[] for _ in edges[1:]]

    def steps(self, step_s: float, start: float, end: float) -> list[Step]:  # noqa: ARG002
        """None."""
        return []

    def took(self, signature: Signature, start: float, end: float) -> tuple[float, float]:  # noqa: ARG002
        """Nothing."""
        return 0.0, 0.0

    def profiles(self, start: float, end: float, limit: int = 200_000) -> list[Profile]:  # noqa: ARG002
        """None."""
        return []

    def profiles_of(self, addresses: list[str]) -> list[Profile]:  # noqa: ARG002
        """None."""
        return []

    def hits(self, signature: Signature, start: float, end: float) -> tuple[int, int]:  # noqa: ARG002
        """None."""
        return 0, 0

    def actors(self, signature: Signature, start: float, end: float) -> list[tuple[str, int]]:  # noqa: ARG002
        """None."""
        return []

    def quotes(
        self,
        signature: Signature,  # noqa: ARG002
        start: float,  # noqa: ARG002
        end: float,  # noqa: ARG002
        limit: int = 3,  # noqa: ARG002
        by: Collection[str] = (),  # noqa: ARG002
    ) -> list[Quote]:
        """None."""
        return []
