"""Answers to Read and Look, in steps of a few milliseconds: between two of them the server's loop serves bans."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tocsin.enforce import netlink
from tocsin.enforce.elements import look_up, read_set, service_sets
from tocsin.enforce.protocol import Actual, Look, Read, pack_elements, rows_of
from tocsin.enforce.subjects import SETS, parse_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_PART_BYTES = 1 << 19
_LOOKS_A_STEP = 40
# A set that changes while it is read is read again for this long; then what was seen has to do: elements added
# meanwhile may be missing, which costs a needless renewal at worst.
_AGAIN_S = 0.5


class Reading:
    """Reads one table over sockets of its own and says what it found.

    Each method gives a generator that yields True after each step, and ends when its last message has been said.
    """

    def __init__(self, table: str, say: Callable[[Actual], None]) -> None:
        self._table = table
        self._say = say
        self._dumps = netlink.Netlink(netlink.NETLINK_NETFILTER)
        self._lookups = netlink.Netlink(netlink.NETLINK_NETFILTER)

    def close(self) -> None:
        """Release the sockets."""
        self._dumps.close()
        self._lookups.close()

    def read(self, message: Read) -> Iterator[bool]:
        """All sets, one datagram or one message a step."""
        error = ""
        try:
            names = (*SETS, *service_sets(self._dumps, self._table))
        except OSError as failure:
            names, error = SETS, str(failure)
        for name in names:
            rows = bytearray()
            whole, trouble = yield from self._read_set(name, rows)
            pieces = list(rows_of(name, bytes(rows), _PART_BYTES))
            for number, piece in enumerate(pieces, 1):
                final = number == len(pieces)
                last = final and name == names[-1]
                self._say(Actual(message.id, name, piece, last=last, whole=whole or not final, error=trouble or error))
                yield True

    def _read_set(self, name: str, rows: bytearray) -> Generator[bool, None, tuple[bool, str]]:
        """Put a set's rows into `rows`; whether none can be missing, and the error text."""
        start_s = time.monotonic()
        while True:
            rows.clear()
            try:
                for elements in read_set(self._dumps, self._table, name):
                    rows += pack_elements(name, elements, time.time())
                    yield True
            except netlink.Interrupted:
                if time.monotonic() - start_s > _AGAIN_S:
                    return False, ""
            except OSError as failure:
                # A dump that was cut short spoils its socket.
                self._dumps.close()
                self._dumps = netlink.Netlink(netlink.NETLINK_NETFILTER)
                return False, str(failure)
            else:
                return True, ""

    def look(self, message: Look) -> Iterator[bool]:
        """Some subjects, a few a step; then one message for each set."""
        rows = {name: bytearray() for name in SETS}
        error = ""
        for index, subject in enumerate(message.subjects):
            try:
                target = parse_subject(subject)
                element = look_up(self._lookups, self._table, target)
            except (ValueError, OSError) as failure:
                error = error or str(failure)
                continue
            if element is not None:
                rows.setdefault(target.set, bytearray()).extend(pack_elements(target.set, [element], time.time()))
            if index % _LOOKS_A_STEP == _LOOKS_A_STEP - 1:
                yield True
        for left, name in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
            self._say(Actual(message.id, name, bytes(rows[name]), last=not left, error=error))
