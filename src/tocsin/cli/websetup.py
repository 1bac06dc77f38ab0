"""What `tocsin setup` changes of a web server: one file, perhaps a link to it, and our marker; all or nothing."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from tocsin.cli.failure import NO_INPUT, NO_PERMISSION, UNAVAILABLE, Failure
from tocsin.enforce.webfiles import Marker
from tocsin.enforce.webserver import Denial, Server, apache_conf, nginx_conf
from tocsin.model import Signature

TEST_WITHIN_S = 60.0
APACHE_PROGRAMS = ("apachectl", "apache2ctl", "httpd", "apache2")
_FOLDERS = {
    "apache": ("/etc/apache2/conf-available", "/etc/httpd/conf.d", "/etc/apache2/conf.d"),
    "nginx": ("/etc/nginx/conf.d", "/etc/nginx/http.d"),
}
APACHE_PIDS = ("/run/apache2/apache2.pid", "/run/httpd/httpd.pid", "/run/httpd.pid")
_VHOST = re.compile(r"(?:\s+port \S+ namevhost|\S+:\S+)\s+(\S+) \(").match
_ALIAS = re.compile(r"\s+alias (\S+)$").match
_LIMIT = re.compile(r"[^#]*\blimit_req\s").match
_SAMPLE = Denial("sample", Signature("GET", "/sample", "a=", "www.example.org", "sample"), ("192.0.2.7",), 0.0)


class Site(Struct, frozen=True):
    """A web server here: the file of ours, the link that enables it (or none), its main configuration where that is
    not the usual one.
    """

    server: Server
    conf: Path
    link: Path | None
    main: str


def site_of(server: Server, into: Path | None, main: Path | None) -> Site:
    """Where a server takes our lines from; Failure where it is not here."""
    given = str(main.absolute()) if main else ""
    if into is not None:
        return Site(server, into.absolute(), None, given)
    folder = next((Path(each) for each in _FOLDERS[server] if Path(each).is_dir()), None)
    if folder is None:
        places = ", ".join(_FOLDERS[server])
        raise Failure(NO_INPUT, f"no {server} here ({places}); name a file that it includes with --into FILE")
    conf = folder / "tocsin.conf"
    link = folder.with_name("conf-enabled") / conf.name if folder.name == "conf-available" else None
    return Site(server, conf, link, given)


def lines_of(site: Site, directory: str) -> str:
    """What our file says while nothing is denied."""
    return apache_conf(directory) if site.server == "apache" else nginx_conf((), time.time())


def difference(site: Site, after: str) -> str:
    """The change as a diff; empty where there is none. `after` empty: the file goes."""
    before = _text(site.conf)
    name = str(site.conf)
    old, new = (name if before else "/dev/null"), (name if after else "/dev/null")
    found = "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), old, new))
    if site.link is not None and site.link.is_symlink() != bool(after):
        found += f"{'+' if after else '-'} link {site.link} -> ../conf-available/{site.conf.name}\n"
    return found


def change(site: Site, after: str, marker: Path) -> None:
    """Make the change and have the server test it; Failure where it refuses, and then all is as before.

    The server's own configuration is tested first: what was broken before is not blamed on us.
    """
    tested(site, "it was so before; nothing was changed")
    before, linked = _text(site.conf), site.link is not None and site.link.is_symlink()
    with _explained(site.conf):
        _write(site, after)
    try:
        tested(site, "the change is taken back")
        if after:
            _probe(site, after)
            _mark(site, marker)
        else:
            marker.unlink(missing_ok=True)
    except (Failure, OSError) as error:
        with _explained(site.conf):
            _write(site, before, linked=linked)
        if isinstance(error, Failure):
            raise
        raise Failure(NO_PERMISSION, f"{marker}: {error.strerror}; the change is taken back") from error


def tested(site: Site, otherwise: str) -> str:
    """What the server says of its configuration; Failure where it refuses it."""
    command = [*_program(site), "-t"]
    code, said = run(command)
    if code != 0:
        raise Failure(UNAVAILABLE, f"{' '.join(command)}: {said}", otherwise)
    return said


def _probe(site: Site, after: str) -> None:
    """Whether our lines are really read, and would do. What stands in their place for the test goes again."""
    if site.server == "apache":
        code, said = run([*_program(site), "-M"])
        if code == 0 and "alias_module" not in said:
            raise Failure(UNAVAILABLE, "Apache lacks mod_alias; enable it (a2enmod alias)", "the change is taken back")
        code, said = run([*_program(site), "-t", "-D", "DUMP_INCLUDES"])
        if code == 0 and str(site.link or site.conf) not in said:
            raise Failure(UNAVAILABLE, f"Apache does not include {site.conf}", "include it; the change is taken back")
        return
    now_ts = time.time()
    sample = msgspec.structs.replace(_SAMPLE, end_ts=now_ts + 60)
    site.conf.write_text(nginx_conf([sample], now_ts))
    tested(site, "the change is taken back")
    code, said = run([*_program(site), "-T", "-q"])
    site.conf.write_text(after)
    if code == 0 and f"# configuration file {site.conf}:" not in said:
        raise Failure(
            UNAVAILABLE, f"nginx does not include {site.conf}", "include it in http; the change is taken back"
        )


def own_limits(site: Site) -> list[str]:
    """Files of nginx with a `limit_req` of their own, in whose place ours does not stand."""
    found: dict[str, None] = {}
    file = ""
    for line in run([*_program(site), "-T", "-q"])[1].splitlines():
        if line.startswith("# configuration file "):
            file = line.removeprefix("# configuration file ").rstrip(":")
        elif _LIMIT(line) and file != str(site.conf) and "zone=tocsin" not in line:
            found[file] = None
    return list(found)


def knows_clients(site: Site) -> bool:
    """Whether the server is told whom the proxies before it speak for."""
    try:
        program = _program(site)
    except Failure:  # it was set up, and is gone since
        return False
    if site.server == "apache":
        return "remoteip_module" in run([*program, "-M"])[1]
    return any(line.split()[:1] == ["set_real_ip_from"] for line in run([*program, "-T", "-q"])[1].splitlines())


def aliases_of(site: Site) -> dict[str, tuple[str, ...]]:
    """Apache's virtual hosts by their first names, with their other ones (not those with wildcards)."""
    if site.server != "apache":
        return {}
    found: dict[str, dict[str, None]] = {}
    name = ""
    for line in run([*_program(site), "-t", "-D", "DUMP_VHOSTS"])[1].splitlines():
        if match := _VHOST(line):
            name = match[1]
        elif (match := _ALIAS(line)) and name:
            found.setdefault(name, {})[match[1]] = None
    return {name: tuple(aliases) for name, aliases in found.items()}


def run(command: list[str]) -> tuple[int, str]:
    """A program's exit code and all that it says."""
    try:
        done = subprocess.run(  # noqa: S603  the server's own program, with fixed words
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TEST_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "backslashreplace").strip()


def _program(site: Site) -> list[str]:
    names = ("nginx",) if site.server == "nginx" else APACHE_PROGRAMS[2:] if site.main else APACHE_PROGRAMS
    path = next((found for name in names for found in _found(name)), None)
    if path is None:
        raise Failure(NO_INPUT, f"the program of {site.server} was not found ({', '.join(names)})")
    flag = "-c" if site.server == "nginx" else "-f"
    return [path, *((flag, site.main) if site.main else ())]


def _found(name: str) -> Iterator[str]:
    for folder in ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"):
        if os.access(f"{folder}/{name}", os.X_OK):
            yield f"{folder}/{name}"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(NO_PERMISSION, f"{path}: cannot be read: {error}; run as root (sudo)") from error


def _write(site: Site, text: str, *, linked: bool = True) -> None:
    if text:
        site.conf.write_text(text)
        site.conf.chmod(0o644)
    else:
        site.conf.unlink(missing_ok=True)
    if site.link is None:
        return
    if text and linked and not site.link.is_symlink():
        site.link.symlink_to(f"../conf-available/{site.conf.name}")
    elif not (text and linked):
        site.link.unlink(missing_ok=True)


def marker_of(site: Site) -> Marker:
    """What the marker says of a site that is set up."""
    conf = site.link or site.conf  # a link that is taken away ends it, too
    asks = site.server == "apache"
    return Marker(site.server, str(conf), site.main, clients=knows_clients(site), aliases=aliases_of(site), asks=asks)


def _mark(site: Site, marker: Path) -> None:
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_bytes(msgspec.json.encode(marker_of(site)) + b"\n")
    marker.chmod(0o644)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = NO_PERMISSION if isinstance(error, PermissionError) else UNAVAILABLE
        raise Failure(code, f"{error.filename or path}: {error.strerror}; run as root (sudo)") from error
