"""The files that a web server reads to know what to deny: written here, and by nobody else.

Each folder is ours, its files may be read by everybody and written by nobody else. Who is spared is a name in a folder
that can be looked up but not listed. Methods raise OSError where the disk fails; what stood before stands then.
"""

from __future__ import annotations

import contextlib
import os
import time
from _blake2 import blake2s  # what hashlib hands out; hashlib and secrets load OpenSSL, 4 MB of it
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct, field

from tocsin.enforce.webserver import (
    LEASE_S,
    Denial,
    Server,
    apache_classes,
    question_page,
    spare_names,
    subject_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tocsin.enforce.subjects import Network
    from tocsin.model import Signature

LAYOUTS: dict[Server, tuple[str, ...]] = {
    "apache": ("/etc/apache2/apache2.conf", "/etc/httpd/conf/httpd.conf", "/etc/apache2/httpd.conf"),
    "nginx": ("/etc/nginx/nginx.conf",),
}
FILES = ("classes", "pages", "asked")  # Apache's
MARKER = "web.json"
MAX_MARKER_BYTES = 1 << 16
MAX_ORDER_BYTES = 8 << 20
APPLIED_WITHIN_S = 15.0


class Marker(Struct, frozen=True):
    """What `tocsin setup` has left beside the configuration: which server reads which file of ours.

    `main` is nginx's own configuration where it is not the one compiled in. `clients`: the server is told whom the
    proxies before it speak for (mod_remoteip, real_ip). `aliases`: Apache's other names of a virtual host. `asks`: its
    file has the question in it, which those of early versions had not.
    """

    server: Server
    conf: str
    main: str = ""
    clients: bool = False
    aliases: dict[str, tuple[str, ...]] = {}
    asks: bool = False


class Order(Struct, frozen=True):
    """What the reloader is to have nginx deny. `until_ts` is a lease: renewed every few seconds."""

    token: str
    until_ts: float
    denials: tuple[Denial, ...] = ()
    always: tuple[str, ...] = ()


class Result(Struct, frozen=True):
    """What the reloader has made of an order, beside the file that nginx reads."""

    token: str
    ok: bool
    text: str = ""


def marker_path(config_file: str) -> Path:
    """Where the marker stands: beside the configuration."""
    return (Path(config_file).parent if config_file else Path("/etc/tocsin")) / MARKER


def read_marker(path: Path) -> Marker | None:
    """What the web server was set up for; None where it was not, or is no more."""
    try:
        with path.open("rb") as file:
            marker = msgspec.json.decode(file.read(MAX_MARKER_BYTES), type=Marker)
        return marker if Path(marker.conf).exists() else None
    except (OSError, msgspec.MsgspecError):
        return None


def why_not(marker: Marker | None, *, proxied: bool = False, asks: bool = False) -> str:
    """Why a class cannot be denied, where it cannot; empty where the web server is set up. `proxied`: clients come
    through proxies, whose addresses are all that a server sees that is not told: nobody could be spared. `asks`: why
    its senders cannot be asked.
    """
    what = "limit" if asks else "deny-request"
    if marker is None:
        return f"{what}: not set up; tocsin setup {'|'.join(present_servers() or LAYOUTS)}"
    if asks and marker.server == "nginx":
        return "limit: nginx has no place for the page that asks which every server takes part in"
    if asks and not marker.asks:
        return f"limit: {marker.conf} is of a version that did not ask; tocsin setup {marker.server}"
    if proxied and not marker.clients:
        module = "mod_remoteip" if marker.server == "apache" else "set_real_ip_from"
        return f"{what}: behind a proxy, and {marker.server} is not told the clients ({module}); set it up anew"
    return ""


def present_servers() -> list[Server]:
    """The web servers that are configured on this machine."""
    return [server for server, paths in LAYOUTS.items() if any(Path(path).exists() for path in paths)]


def replace(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put a file in the place of another, whole: who reads has the old or the new."""
    temporary = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "wb") as file:  # noqa: PTH123  a descriptor
        os.fchmod(file.fileno(), mode)
        file.write(data)
    temporary.replace(path)


class Files(Protocol):
    """What a web server's files do, whichever server it is."""

    def want(self, denials: Sequence[Denial], always: Iterable[Network]) -> None:
        """These are to be denied from now on."""

    def work(self, steps: int, now_ts: float) -> bool:
        """Do a part of what that takes; whether all is done."""

    def answer(self, now_s: float) -> str | None:
        """What became of what was written last: empty where the server has it, else why not; None: not known yet."""

    def renew(self, now_ts: float) -> None:
        """Prolong the lease."""

    def clear(self) -> None:
        """Deny nothing."""


class _Slot(Struct):
    kind: tuple[Signature, bool]
    wanted: set[str] = field(default_factory=set)
    present: set[str] = field(default_factory=set)


class ApacheFiles:
    """The classes, and for each a folder `spare/SLOT` with a name for each subject that is spared.

    `classes` are denied to all others, `pages` (GET) but for browsers that show a cookie, `asked` to who claims to be a
    browser and does not show it. `page` is what those are answered who are asked; it sets the cookie, whose value is a
    name in `token`.
    """

    def __init__(self, directory: Path, aliases: Mapping[str, Sequence[str]]) -> None:
        self._directory = directory
        self._aliases = aliases
        self._slots: dict[int, _Slot] = {}
        self._number = 0
        self._in_force: set[int] = set()
        self._token = ""
        self.clear()

    def want(self, denials: Sequence[Denial], always: Iterable[Network]) -> None:
        """These are to be denied from now on; whose class is denied already keeps its slot."""
        common = {name for network in always for name in spare_names(network)}
        slots = {slot.kind: number for number, slot in self._slots.items()}
        wanted: set[int] = set()
        for denial in denials:
            number = slots.get(denial.kind)
            if number is None:
                self._number = number = self._number + 1
                self._slots[number] = _Slot(denial.kind)
            names = {name for subject in denial.spare for name in subject_names(subject)}
            self._slots[number].wanted = names | common
            wanted.add(number)
        self._in_force = wanted

    def work(self, steps: int, now_ts: float) -> bool:
        """First who is spared more, then the classes, then who is spared no more."""
        for number in sorted(self._in_force):
            slot = self._slots[number]
            folder = self._folder(number)
            for name in list(slot.wanted - slot.present)[:steps]:
                os.close(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
                slot.present.add(name)
                steps -= 1
        if steps <= 0:
            return False
        self.renew(now_ts)
        return self._tidy(steps)

    def _folder(self, number: int) -> Path:
        folder = self._directory / "spare" / str(number)
        if not self._slots[number].present:
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)
        return folder

    def _tidy(self, steps: int) -> bool:
        for number, slot in list(self._slots.items()):
            folder = self._directory / "spare" / str(number)
            keep = slot.wanted if number in self._in_force else set()
            for name in list(slot.present - keep)[:steps]:
                (folder / name).unlink(missing_ok=True)
                slot.present.discard(name)
                steps -= 1
            if not slot.present and number not in self._in_force:
                with contextlib.suppress(FileNotFoundError):
                    folder.rmdir()
                del self._slots[number]
        return steps > 0

    def answer(self, now_s: float) -> str | None:
        """Apache reads the file at each request."""
        del now_s
        return ""

    def renew(self, now_ts: float) -> None:
        """Write the classes with the seconds that are left, but for those whose spared are not all there."""
        ready: dict[str, list[tuple[int, Signature]]] = {file: [] for file in FILES}
        for number in sorted(self._in_force):
            slot = self._slots[number]
            if slot.wanted <= slot.present:
                signature, asks = slot.kind
                file = "asked" if asks else "pages" if signature.method == "GET" else "classes"
                ready[file] += [(number, each) for each in self._by_names(signature)]
        asks = bool(ready["asked"] or ready["pages"])
        if asks and not self._token:
            self._mint()
        for file, classes in ready.items():
            replace(self._directory / file, apache_classes(classes, now_ts))
        if self._token and not asks:
            self._forget_token()

    def _mint(self) -> None:
        """A cookie for as long as somebody is asked: what it was the last time opens nothing."""
        token = os.urandom(16).hex()
        (self._directory / "token" / token).touch(0o644)
        replace(self._directory / "page", question_page(token))
        self._token = token

    def _forget_token(self) -> None:
        self._token = ""
        tokens = self._directory / "token"
        tokens.mkdir(exist_ok=True)
        tokens.chmod(0o711)
        for token in tokens.iterdir():
            token.unlink(missing_ok=True)

    def _by_names(self, signature: Signature) -> list[Signature]:
        """The class once for each name that its site has."""
        names = (signature.vhost, *self._aliases.get(signature.vhost or "", ()))
        return [msgspec.structs.replace(signature, vhost=name) for name in names]

    def clear(self) -> None:
        """Deny nothing, and forget who was spared."""
        for file in FILES:
            replace(self._directory / file, b"")
        self._forget_token()
        self._slots.clear()
        self._in_force = set()
        spare = self._directory / "spare"
        spare.mkdir(exist_ok=True)
        spare.chmod(0o711)
        for folder in spare.iterdir():
            for name in folder.iterdir():
                name.unlink(missing_ok=True)
            folder.rmdir()


class NginxFiles:
    """`nginx.json`: an Order for the reloader, which judges it again, writes nginx's file and says what came of it."""

    def __init__(self, directory: Path, conf: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = directory / "nginx.json"
        self._result = result_path(conf)
        self._clock = clock
        self._order = Order("", 0.0)
        self._written_s = clock()
        self.clear()

    def want(self, denials: Sequence[Denial], always: Iterable[Network]) -> None:
        """These are to be denied from now on."""
        self._order = Order("", 0.0, tuple(denials), tuple(sorted(map(str, always))))
        token = blake2s(msgspec.json.encode((self._order, time.time())), digest_size=16).hexdigest()
        self._order = msgspec.structs.replace(self._order, token=token if denials else "")

    def work(self, steps: int, now_ts: float) -> bool:
        """Write the order."""
        del steps
        self._written_s = self._clock()
        self.renew(now_ts)
        return True

    def answer(self, now_s: float) -> str | None:
        """What the reloader says of the order."""
        try:
            result = msgspec.json.decode(self._result.read_bytes()[:MAX_MARKER_BYTES], type=Result)
        except (OSError, msgspec.MsgspecError):
            result = Result("", ok=False)
        if result.token == self._order.token:
            return "" if result.ok else result.text or "nginx refused the file"
        if now_s - self._written_s < APPLIED_WITHIN_S:
            return None
        return f"nobody took the order within {APPLIED_WITHIN_S:.0f} s: start guard as root, or tocsin-nginx.service"

    def renew(self, now_ts: float) -> None:
        """Prolong the lease."""
        order = msgspec.structs.replace(self._order, until_ts=now_ts + LEASE_S)
        replace(self._path, msgspec.json.encode(order), 0o600)

    def clear(self) -> None:
        """Deny nothing."""
        self.want((), ())
        replace(self._path, msgspec.json.encode(self._order), 0o600)


def result_path(conf: Path) -> Path:
    """Where the reloader says what came of an order."""
    return conf.with_name(f"{conf.name}.result")
