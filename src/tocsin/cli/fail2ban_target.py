"""Where an import goes: to the running guard, or into the ledger for the next one."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tocsin.cli.asking import ask
from tocsin.cli.fail2ban_record import as_owner
from tocsin.cli.failure import CONFIGURATION, DATA, NO_PERMISSION, UNAVAILABLE, Failure
from tocsin.decide.policy import Policy
from tocsin.importing import Arrival, LedgerKeeper, Taken, refusal, take, take_back
from tocsin.wiring import allow_list, policy_settings

if TYPE_CHECKING:
    from tocsin.config import Config
    from tocsin.ledger.store import Ledger

WRITTEN_WITHIN_S = 60.0
ANSWERED_WITHIN_S = 1.0
PAUSE_S = 0.001

Left = list[tuple[int, str]]


class Target(Protocol):
    """Takes arrivals over, and back. `name` is `guard` or `ledger`, `portion` how many it wants at once, `refused`
    what the firewall has refused, with its reasons.
    """

    name: str
    portion: int
    refused: list[str]

    def offer(self, arrivals: Sequence[Arrival]) -> tuple[list[Taken], Left]:
        """Take a portion over; what was taken, and the positions of what was not, with the reasons."""

    def back(self, rows: Sequence[Taken]) -> int:
        """Take a portion back, in this order; how many bans ended."""

    def finish(self, said: str, /) -> None:
        """All has been handed over; `said` is told to whom it concerns. Failure where it could not be kept."""


Services = Callable[[str], str]
"""What the bans of a jail close, by its name."""


@contextmanager
def target_of(config: Config, *, dry_run: bool) -> Iterator[Target]:
    """The running guard; where none runs, the ledger, and no guard can start meanwhile."""
    lock = _lock(Path(config.guard.run_dir))
    if lock is None:
        yield _Guard(config, dry_run=dry_run)
        return
    try:
        services = _services(config)  # while we are who we are: its directory and its modules may not be the owner's
        with as_owner(Path(config.guard.state_dir)):
            if dry_run:
                yield _Glance(config, services)
                return
        _make_folder(config)
        with as_owner(Path(config.guard.state_dir)):
            resting = _resting(config, services)
            try:
                yield resting
            finally:
                resting.close()
    finally:
        os.close(lock)


def _lock(run_dir: Path) -> int | None:
    """A descriptor that keeps guards from starting; None where one runs."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run_dir / "guard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except PermissionError as error:
        raise Failure(NO_PERMISSION, f"{run_dir}: permission denied; try again as root (sudo)") from error
    except OSError as error:
        raise Failure(UNAVAILABLE, f"{run_dir}: {error.strerror}; name another run_dir in [guard]") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _make_folder(config: Config) -> None:
    from tocsin.privileges import PrivilegeError, own_directory  # noqa: PLC0415  for this alone

    try:
        own_directory(Path(config.guard.state_dir), config.guard.user)
    except PrivilegeError as error:
        raise Failure(NO_PERMISSION, str(error)) from error


class _Guard:
    """The running guard, asked over its control socket."""

    name = "guard"
    portion = 16  # 5 ms of an enforcer's time: a ban of the guard's own waits no longer

    def __init__(self, config: Config, *, dry_run: bool) -> None:
        self.config = config
        self.dry_run = dry_run
        self.refused: list[str] = []

    def offer(self, arrivals: Sequence[Arrival]) -> tuple[list[Taken], Left]:
        rows = msgspec.to_builtins(list(arrivals))
        reply = ask(self.config, {"cmd": "import", "rows": rows, "dry": self.dry_run})
        self._wait(reply)
        return msgspec.convert(reply["taken"], list[Taken]), [(int(number), why) for number, why in reply["left"]]

    def back(self, rows: Sequence[Taken]) -> int:
        reply = ask(self.config, {"cmd": "import-undo", "rows": msgspec.to_builtins(list(rows))})
        self._wait(reply)
        return int(reply["lifted"])

    def _wait(self, reply: dict[str, Any]) -> None:
        """Until the kernel has answered all of the portion, or takes too long: the guard tries again by itself."""
        until_s = time.monotonic() + ANSWERED_WITHIN_S
        while True:
            self.refused += reply["refused"]
            if not reply["waiting"] or time.monotonic() >= until_s:
                return
            time.sleep(PAUSE_S)
            reply = ask(self.config, {"cmd": "import", "rows": []})

    def finish(self, said: str, /) -> None:
        if not self.dry_run:
            ask(self.config, {"cmd": "import", "rows": [], "said": said})


class _Glance:
    """The ledger at rest, looked at alone."""

    name = "ledger"
    portion = 5000

    def __init__(self, config: Config, services: Services) -> None:
        self.policy = _policy(config, _in_force(config))
        self._services = services
        self.refused: list[str] = []

    def offer(self, arrivals: Sequence[Arrival]) -> tuple[list[Taken], Left]:
        now_ts = time.time()
        reasons = [refusal(self.policy, each, now_ts, self._services(each.rule)) for each in arrivals]
        return [], [(number, reason) for number, reason in enumerate(reasons) if reason is not None]

    def back(self, rows: Sequence[Taken]) -> int:
        raise AssertionError(f"{len(rows)} rows to take back in a dry run")

    def finish(self, _said: str, /) -> None:
        """Nobody is told of what did not happen."""


def _resting(config: Config, services: Services) -> _Resting:
    try:
        return _Resting(config, services)
    except PermissionError as error:
        user, folder = config.guard.user, config.guard.state_dir
        raise Failure(
            NO_PERMISSION, f"{folder}: its owner, or {user}, as whom the guard runs, cannot get there: {error.strerror}"
        ) from error


class _Resting:
    """The ledger at rest, with the policy that the next guard will have."""

    name = "ledger"
    portion = 5000

    def __init__(self, config: Config, services: Services) -> None:
        from tocsin.ledger.load import load  # noqa: PLC0415  where no guard runs
        from tocsin.ledger.store import Ledger  # noqa: PLC0415  as above

        self.refused: list[str] = []
        self._services = services
        path = Path(config.guard.state_dir) / "ledger.db"
        saved = load(path, time.time(), config.bans.memory_s)
        if saved.trouble is not None:
            raise Failure(DATA, saved.trouble)
        self.policy = _policy(config, saved.active, saved.starts, saved.history)
        self.ledger: Ledger = Ledger(
            path, config.ledger.keep_s, config.ledger.max_rows, time.time, config.bans.memory_s
        )
        self.keeper = LedgerKeeper(self.ledger.decision, self.ledger.recollect)
        self.ledger.start()

    def offer(self, arrivals: Sequence[Arrival]) -> tuple[list[Taken], Left]:
        now_ts = time.time()
        taken: list[Taken] = []
        left: Left = []
        for number, arrival in enumerate(arrivals):
            services = self._services(arrival.rule)
            reason = refusal(self.policy, arrival, now_ts, services)
            if reason is None:
                taken.append(take(self.policy, self.keeper, arrival, now_ts, services))
            else:
                left.append((number, reason))
        self._wait()
        return taken, left

    def back(self, rows: Sequence[Taken]) -> int:
        now_ts = time.time()
        lifted = sum(take_back(self.policy, self.keeper, row, now_ts) for row in rows)
        self._wait()
        return lifted

    def finish(self, _said: str, /) -> None:
        """The ledger says it all; there is nobody else to be told."""
        self._wait()

    def _wait(self) -> None:
        if not self.ledger.wait_written(WRITTEN_WITHIN_S):
            raise Failure(UNAVAILABLE, self.ledger.trouble() or "the ledger cannot be written in time; try again")

    def close(self) -> None:
        """Let go of the ledger."""
        self.ledger.close(WRITTEN_WITHIN_S)


def _services(config: Config) -> Services:
    """What the bans of a jail close, by its name, as the next guard will know it from its configuration."""
    from tocsin.config import ConfigErrors  # noqa: PLC0415  where no guard runs
    from tocsin.wiring import jails_of  # noqa: PLC0415  as above

    try:
        jailed = jails_of(config)
    except ConfigErrors as found:
        raise Failure(CONFIGURATION, *str(found).splitlines()) from found
    return (lambda _name: "") if jailed is None else jailed.services_of


def _policy(
    config: Config,
    active: dict[str, float | None],
    starts: dict[str, float] | None = None,
    history: Any = None,
) -> Policy:
    from tocsin.ledger.load import HistoryRows  # noqa: PLC0415  where no guard runs

    if history is None:
        path = Path(config.guard.state_dir) / "ledger.db"
        history = HistoryRows(
            path, time.time() - config.bans.memory_s, policy_settings(config, observe=False).max_history
        )
    settings = policy_settings(config, observe=False)
    return Policy(settings, allow_list(config), history=history, active=active, starts=starts)


def _in_force(config: Config) -> dict[str, float | None]:
    """The bans that the ledger holds, where there is one."""
    from tocsin.cli.asking import ledger_of  # noqa: PLC0415  for this alone

    if not (Path(config.guard.state_dir) / "ledger.db").exists():
        return {}
    with ledger_of(config) as reader:
        return {ban.target: ban.end_ts for ban in reader.bans(time.time())}
