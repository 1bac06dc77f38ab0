"""Who a jail never bans: `ignoreip`, `ignorecommand` and `ignorecache`. Pure: what has to be asked, the host asks.

`ignoreip` holds addresses, networks (`/24`, `/255.255.255.0`), host names and, as fail2ban 1.1 has it, `file:PATH`.
Names and files are the host's to look up; their last good answer stays. Until the first one they cover nobody.

`ignorecommand` is a program, so its answer takes a while, and nobody waits for it: a failure that it has to judge is
put aside, the engine goes on, and the failure is counted at its own time once the answer is there. It counts as well if
there is no answer within WAIT_S, if the command fails (an exit code other than 0 and 1), or if too much waits already:
whom nobody vouches for is not spared, and a flood cannot buy time by making the command slow. What the command said is
kept by `ignorecache`, or, without one, for a minute by all the values that the command refers to.
"""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from tocsin.fail2ban.actions.shelltext import TAG, prepare
from tocsin.fail2ban.actions.tickets import Host, Ticket, from_log, is_dynamic, value_of
from tocsin.fail2ban.model import Jail, Remark
from tocsin.fail2ban.settings.options import parse_span_s

if TYPE_CHECKING:
    from tocsin.rules import Failure, Verdict

WAIT_S = 15.0
ASIDE_MAX = 5000
DEFAULT_COUNT, DEFAULT_TIME_S = 1000, 60.0
CACHE_COUNT, CACHE_TIME_S = 100, 300.0  # where `ignorecache` names a key alone
CACHE_COUNT_MAX = 100_000

_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})?)*\.?\Z"
)
_PARAMETER = re.compile(r"\s*,?\s*([\w-]+)\s*=\s*(\"[^\"]*\"|'[^']*'|[^,]*)")
_NOBODY = Host()

T = TypeVar("T")


def ticket_of(failure: Failure) -> Ticket:
    """What `ignorecommand` is told: the failure alone, as nobody is banned yet."""
    return Ticket(
        fid=failure.key,
        ip=failure.source_ip or "",
        ts=failure.ts,
        failures=failure.attempts,
        matches=failure.matches,
        fields=failure.fields,
    )


class IgnoreList:
    """A jail's `ignoreip`. `names` and `files` are to be looked up; `set_name` and `set_file` take what was found."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.names: tuple[str, ...] = ()
        self.files: tuple[str, ...] = ()
        self.mistakes: tuple[str, ...] = ()
        self._parts: dict[str, tuple[str, ...]] = {}
        self._networks: dict[tuple[int, int], dict[int, str]] = {}
        self._texts: dict[str, str] = {}
        plain: list[str] = []
        names: dict[str, None] = {}
        files: dict[str, None] = {}
        mistakes: list[str] = []
        for entry in entries:
            if entry.startswith("file:"):
                files[entry.removeprefix("file:")] = None
            elif network_of(entry) is not None:
                plain.append(entry)
            elif _NAME.match(entry) and not entry.replace(".", "").isdigit():
                names[entry] = None
            else:
                mistakes.append(entry)
        self.names, self.files, self.mistakes = tuple(names), tuple(files), tuple(mistakes)
        self._parts[""] = tuple(plain)
        self._compile()

    def set_name(self, name: str, addresses: Sequence[str] | None) -> bool:
        """A name's addresses as looked up; None leaves the last answer. Says whether it changed anything."""
        return addresses is not None and name in self.names and self._set(name, tuple(addresses))

    def set_file(self, path: str, entries: Sequence[str] | None) -> bool:
        """What a file holds: addresses and networks, others are left out. None leaves what it held before."""
        if entries is None or path not in self.files:
            return False
        return self._set(f"file:{path}", tuple(entry for entry in entries if network_of(entry) is not None))

    def covers(self, ip: str | None, key: str = "") -> str | None:
        """The entry that covers an address, or that is the very key; None where nobody spares it."""
        if key in self._texts:
            return self._texts[key]
        if not ip or not self._networks:
            return None
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return None
        number = int(address)
        for (version, shift), networks in self._networks.items():
            if version == address.version:
                entry = networks.get(number >> shift)
                if entry is not None:
                    return entry
        return None

    def _set(self, part: str, entries: tuple[str, ...]) -> bool:
        if self._parts.get(part) == entries:
            return False
        self._parts[part] = entries
        self._compile()
        return True

    def _compile(self) -> None:
        networks: dict[tuple[int, int], dict[int, str]] = {}
        for part, entries in self._parts.items():
            for entry in entries:
                network = network_of(entry)
                if network is None:
                    continue
                shift = network.max_prefixlen - network.prefixlen
                value = int(network.network_address) >> shift
                networks.setdefault((network.version, shift), {}).setdefault(value, part or entry)
        self._networks = networks
        self._texts = {name: name for name in self.names}


def network_of(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An address or network as fail2ban takes it: in brackets or not, with a prefix length or a mask; None: neither."""
    text = entry.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    address, slash, mask = text.partition("/")
    try:
        if ":" in mask:
            bits = f"{int(ipaddress.IPv6Address(mask)):0128b}".rstrip("0")
            if "0" in bits:
                return None
            mask = str(len(bits))
        network = ipaddress.ip_network(f"{address}{slash}{mask}", strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return network


class IgnoreCache:
    """`ignorecache = key="<ip>", max-count=100, max-time=5m`: what was said, for a while; the oldest make room.

    `<ip-host>` in a key stands for the address itself, which tells apart at least as much. ValueError says what is
    wrong. Times are of a monotonic clock, in seconds.
    """

    def __init__(self, key: str, max_count: int, max_time_s: float) -> None:
        self.key = key
        self.max_count = max_count
        self.max_time_s = max_time_s
        self._kept: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    @classmethod
    def parse(cls, text: str, command: str) -> IgnoreCache:
        """The cache that `ignorecache` asks for; without one, that of all the values which the command refers to."""
        if not text.strip():
            return cls(
                "\n".join(f"<{tag}>" for tag in ["ip", "fid", *TAG.findall(command)]), DEFAULT_COUNT, DEFAULT_TIME_S
            )
        values: dict[str, str] = {}
        at = 0
        while at < len(text.rstrip()):
            match = _PARAMETER.match(text, at)
            if match is None or match.end() == at:
                raise ValueError(f'ignorecache = {text}: expected key="<ip>", max-count=100, max-time=5m')
            values[match[1]] = match[2].strip().strip("\"'")
            at = match.end()
        unknown = values.keys() - {"key", "max-count", "max-time"}
        if unknown or not values.get("key"):
            what = f"knows no {', '.join(sorted(unknown))}" if unknown else "needs a key"
            raise ValueError(f'ignorecache = {text}: it {what}; write key="<ip>", max-count=100, max-time=5m')
        count = values.get("max-count", str(CACHE_COUNT))
        if not count.isascii() or not count.isdigit() or not 0 < int(count[:9]) <= CACHE_COUNT_MAX:
            raise ValueError(f"ignorecache: max-count = {count}: expected a number from 1 to {CACHE_COUNT_MAX}")
        return cls(values["key"], int(count), parse_span_s(values.get("max-time", str(CACHE_TIME_S))))

    def key_of(self, ticket: Ticket, jail: str) -> str:
        """The key with the ticket's values; each is quoted, so that two of them cannot be mistaken for one."""

        def value(match: re.Match[str]) -> str:
            tag = "ip" if match[1] == "ip-host" else match[1]
            return repr(value_of(tag, ticket, jail, _NOBODY, "")) if is_dynamic(tag) else match[0]

        return TAG.sub(value, self.key)

    def get(self, key: str, now_s: float) -> bool | None:
        """What was said, None where nothing was or it is too long ago."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept[0] <= now_s:
            del self._kept[key]
            return None
        return kept[1]

    def put(self, key: str, *, ignore: bool, now_s: float) -> None:
        """Keep what was said."""
        self._kept.pop(key, None)
        while len(self._kept) >= self.max_count:
            self._kept.popitem(last=False)
        self._kept[key] = (now_s + self.max_time_s, ignore)


class Ignoring(Generic[T]):
    """A jail's whole judgement. T is what the caller wants back when the answer has come (a Failure and its place).

    `ask` sends a ticket to the runner, and returns the question's id or None; `is_own` knows the machine's own
    addresses, for `ignoreself`. Times are of a monotonic clock, in seconds.
    """

    def __init__(self, jail: Jail, ask: Callable[[str, Ticket], int | None], is_own: Callable[[str], bool]) -> None:
        self.entries = IgnoreList(jail.ignoreip)
        self.remarks: tuple[Remark, ...] = ()
        self._jail = jail
        self._ask = ask
        self._is_own = is_own
        remarks = [
            f"ignoreip: {entry} is neither an address, nor a network, nor a name; it spares nobody"
            for entry in self.entries.mistakes
        ]
        try:
            self._cache = IgnoreCache.parse(jail.ignorecache, jail.ignorecommand)
        except ValueError as error:
            remarks.append(f"{error}; the command's own values are used")
            self._cache = IgnoreCache.parse("", jail.ignorecommand)
        self.remarks = tuple(Remark("warning", text, jail.name, jail.file, jail.line) for text in remarks)
        if jail.ignorecommand:
            text = (
                "ignorecommand is run beside the counting: a failure waits for its answer, and counts if there is none "
                f"within {WAIT_S:g} s"
            )
            self.remarks += (Remark("instead", text, jail.name, jail.file, jail.line),)
            for tag, program in prepare(jail.ignorecommand, is_dynamic).reparsed:
                if from_log(tag) and tag not in ("ip", "fid"):
                    text = (
                        f"ignorecommand is not run: {program} would read <{tag}>, which a client has written, as its "
                        f'own text; put it into a script and call that with "<{tag}>" as an argument'
                    )
                    self.remarks += (Remark("warning", text, jail.name, jail.file, jail.line),)
        self._aside: dict[int, tuple[str, float, list[T]]] = {}
        self._asked: dict[str, int] = {}
        self._count = 0

    def judge(self, failure: Failure, what: T, now_s: float) -> Verdict:
        """`ignored`, `counts`, or `waits`: then `answered` or `expire` will bring `what` back."""
        ip = failure.source_ip
        if (ip and self._jail.ignoreself and self._is_own(ip)) or self.entries.covers(ip, failure.key):
            return "ignored"
        if not self._jail.ignorecommand:
            return "counts"
        ticket = ticket_of(failure)
        key = self._cache.key_of(ticket, self._jail.name)
        known = self._cache.get(key, now_s)
        if known is not None:
            return "ignored" if known else "counts"
        if self._count >= ASIDE_MAX:
            return "counts"
        asked = self._asked.get(key)
        if asked is None:
            asked = self._ask(self._jail.name, ticket)
            if asked is None:
                return "counts"
            self._asked[key] = asked
            self._aside[asked] = (key, now_s + WAIT_S, [])
        self._aside[asked][2].append(what)
        self._count += 1
        return "waits"

    def answered(self, question: int, *, ignore: bool | None, now_s: float) -> list[T]:
        """What counts after all, in the order in which it came: nothing where the answer is to ignore it."""
        key, _, whats = self._aside.pop(question, ("", 0.0, []))
        if self._asked.get(key) == question:
            del self._asked[key]
            self._cache.put(key, ignore=ignore is True, now_s=now_s)
        self._count -= len(whats)
        return [] if ignore else whats

    def expire(self, now_s: float) -> list[T]:
        """What has waited for too long, and counts."""
        whats: list[T] = []
        for question in [one for one, (_, due_s, _) in self._aside.items() if due_s <= now_s]:
            key, _, mine = self._aside.pop(question)
            self._asked.pop(key, None)
            self._count -= len(mine)
            whats += mine
        return whats

    def next_due_s(self) -> float | None:
        """When `expire` will have something, None where nothing waits."""
        return min((due_s for _, due_s, _ in self._aside.values()), default=None)

    def waiting(self) -> tuple[T, ...]:
        """What is aside now: to be saved with the engine's state, and judged again after a restart."""
        return tuple(what for _, _, whats in self._aside.values() for what in whats)
