"""Log formats: one line of a log to one event, in one reading. Pure: no clock, no files, no network."""

from tocsin.formats.access import AccessFormat, apache, combined, common, nginx, vhost_combined
from tocsin.formats.addresses import Proxies, canonical
from tocsin.formats.base import Anchor, Format, Skim
from tocsin.formats.json_access import Caddy, JsonAccess, Traefik
from tocsin.formats.raw import RawLines
from tocsin.formats.sniff import Guess, best, by_name, sniff
from tocsin.formats.syslog import Journal, Syslog

__all__ = [
    "AccessFormat",
    "Anchor",
    "Caddy",
    "Format",
    "Guess",
    "Journal",
    "JsonAccess",
    "Proxies",
    "RawLines",
    "Skim",
    "Syslog",
    "Traefik",
    "apache",
    "best",
    "by_name",
    "canonical",
    "combined",
    "common",
    "nginx",
    "sniff",
    "vhost_combined",
]
