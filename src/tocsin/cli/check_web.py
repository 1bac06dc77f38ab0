"""What `tocsin check` says of the web server: whether it is set up to turn requests away, and has read its part."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from tocsin.cli.item import Item
from tocsin.cli.websetup import APACHE_PIDS, Site, knows_clients, lines_of, own_limits
from tocsin.config import Config
from tocsin.enforce.webfiles import Marker, marker_path, present_servers, read_marker, why_not

NAME = "web server"


def web_items(config: Config) -> Iterator[Item]:
    """One item where all is well; nothing where there is no web server."""
    marker = read_marker(marker_path(config.file))
    if marker is None:
        for server in present_servers():
            detail = f"{server} is not set up: a siege from ever new addresses is announced, but nobody is turned away"
            yield Item(NAME, "warning", detail, f"sudo tocsin setup {server}")
        return
    site = Site(marker.server, Path(marker.conf), None, marker.main)
    wrong = list(_wrong(site, marker, config))
    for detail, remedy in wrong:
        yield Item(NAME, "warning", detail, remedy)
    if not wrong:
        yield Item(NAME, "ok", f"{marker.server} turns requests away where guard says so ({marker.conf})")


def _wrong(site: Site, marker: Marker, config: Config) -> Iterator[tuple[str, str]]:
    again = f"sudo tocsin setup {site.server}"
    if why := why_not(marker, proxied=bool(config.proxies.trusted)):
        remedy = (
            again if knows_clients(site) else f"let {site.server} know the clients behind its proxies, then {again}"
        )
        yield why, remedy
    if site.server == "nginx":
        for file in own_limits(site):
            yield (
                f"{file} has a limit_req of its own, which ours does not join",
                "add `limit_req zone=tocsin;` beside it",
            )
        return
    closed = [path for path in Path(config.web.dir).parents if path.exists() and not path.stat().st_mode & stat.S_IXOTH]
    if closed:
        yield f"Apache may not look into {closed[0]}, so it denies nothing", f"chmod o+x {closed[0]}"
    try:
        current = site.conf.read_text() == lines_of(site, config.web.dir)
    except OSError as error:
        yield f"{site.conf} cannot be read: {error.strerror}", "run as root"
        return
    if not current:
        yield f"{site.conf} is of another version, or for another folder than {config.web.dir}", again
    if not site.main and not _is_read(site.conf):
        yield f"Apache has not read {site.conf} yet", "reload it once: systemctl reload apache2 (or httpd)"


def _is_read(conf: Path) -> bool:
    """Whether Apache was started or reloaded since the file was written: it writes its process id anew each time."""
    pids = [path for path in map(Path, APACHE_PIDS) if path.exists()]
    return not pids or any(path.stat().st_mtime >= conf.stat().st_mtime for path in pids)
