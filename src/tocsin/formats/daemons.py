"""What daemons tell syslog: cron and sudo start jobs, sshd lets in or not, databases speak, anybody runs out of disk.

A message may quote what strangers sent (a user's name, a mail's sender), so that each is read from where its daemon
alone puts words: a full disk is believed where the error ends the message. nginx, PHP-FPM and PostgreSQL may write
whole lines of their logs, time and all; Apache and the databases their messages.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from msgspec.structs import replace

from tocsin.formats.apache_error import apache_message
from tocsin.formats.base import Anchor
from tocsin.formats.entries import DETAIL_CHARACTERS, Entries
from tocsin.formats.heard import Heard
from tocsin.formats.mysql import mysql_message
from tocsin.formats.nginx_error import NginxError
from tocsin.formats.php import FpmLog
from tocsin.formats.php_messages import php_event
from tocsin.formats.postgres import PostgresLog
from tocsin.formats.services import service_name
from tocsin.formats.sshd import TAGS, login_event
from tocsin.formats.told import Told
from tocsin.model import AuthAttempt
from tocsin.server_events import JobStarted, ServerEvent, ServiceState, StorageError

COMMAND_CHARACTERS = 500

_CRONS = frozenset(("cron", "crond", "fcron", "anacron"))
_CRON_COMMAND = re.compile(r" {0,8}\((?P<user>[^()\s]{1,64})\) CMD \((?P<command>.*)", re.DOTALL).fullmatch
_ANACRON = re.compile(r"Job [`'](?P<command>[^'`]{1,200})' started").match
_RUN_PARTS = re.compile(r"run-parts\(\S{1,100}\)").fullmatch
_STARTING = re.compile(r"starting (?P<command>\S{1,200})").match
_SUDO_USER = re.compile(r" {0,64}(?P<user>\S{1,64}) : (?!command not allowed|user NOT in sudoers)").match

_SEQUENCE = re.compile(r"\A\[[0-9]{1,10}-[0-9]{1,10}\] ")  # PostgreSQL counts its messages to syslog
_NGINX_REFUSES = "nginx: [emerg] "

_ERRORS: tuple[tuple[str, Literal["full", "read-only"]], ...] = (
    ("No space left on device", "full"),
    ("Disk quota exceeded", "full"),
    ("Read-only file system", "read-only"),
)
_END = re.compile(r"(?: ?\((?:os error )?28\)|[)\]\"'.!,;]){0,4}\s{0,4}").fullmatch
_RSYSLOG_END = re.compile(r" \[v[0-9].{0,200}\]\s{0,4}", re.DOTALL).fullmatch
_PATH = re.compile(r"(?<![^\s'\"`(=:])(/[^\s'\"`:,()\[\]]{1,255})").search


_READ = frozenset(("nginx", "php-fpm", "php", "postgresql", "mysql", "mariadb", "apache2"))
_LOGINS = ("Failed ", "Accepted ", "Invalid ", "Illegal ", "User ", "Connection ", "Disconnect", "message repeated ")


@lru_cache(maxsize=4096)
def _words_of(tag: str) -> tuple[str, ...] | None:
    """Some of what must stand in a message under a tag for it to tell anything; None where any may."""
    program = tag.rsplit("/", 1)[-1].lower()
    if service_name(tag) in _READ or _RUN_PARTS(tag):
        return None
    if program in _CRONS:
        return ("CMD (", "Job ")
    return (" ; COMMAND=",) if program == "sudo" else ()


def is_idle(tag: str, line: str, begin: int) -> bool:
    """Whether the message that begins there in a line can tell nothing, as most of what a system logs."""
    if tag in TAGS:
        return not line.startswith(_LOGINS, begin)
    words = _words_of(tag)
    if words is None or "No space" in line or "quota" in line or "Read-only" in line:
        return False
    return not any(word in line for word in words)


class DaemonMessages:
    """Reads the messages of all daemons but the first process and the kernel, by the tag under which they stand."""

    def __init__(self) -> None:
        self._logs: dict[str, Entries] = {
            "nginx": NginxError(),
            "php-fpm": FpmLog(),
            "postgresql": PostgresLog(),
        }

    def tell(self, tag: str, message: str, heard: Heard, anchor: Anchor) -> list[Told]:
        """What a message tells."""
        log = self._logs.get(service_name(tag))
        if log is not None:
            unread, line = log.unparsed, _SEQUENCE.sub("", message, 1)
            told = log.tell(line, heard.number, anchor)
            if log.unparsed == unread:
                return [replace(one, line=heard.number, text=heard.text) for one in told]
        event = _event(tag, message, heard.ts)
        return [] if event is None else [heard.told(event)]


def _event(tag: str, message: str, ts: float) -> ServerEvent | AuthAttempt | None:
    if tag in TAGS:
        return _login(message, ts)
    service = service_name(tag)
    event = _job(tag, message, ts)
    if service == "nginx" and message.startswith(_NGINX_REFUSES):
        event = ServiceState(ts, service, "refused", message[len(_NGINX_REFUSES) :][:DETAIL_CHARACTERS])
    elif service in {"mysql", "mariadb"}:
        event = mysql_message(ts, service, message)
    elif service in {"apache2", "php-fpm", "php"}:
        event = php_event(ts, message)
        if event is None and service == "apache2":
            event = apache_message(ts, message)
    return event or _storage(tag, message, ts)


def _login(message: str, ts: float) -> AuthAttempt | None:
    event = login_event(ts, message)
    return event if isinstance(event, AuthAttempt) else None


def _job(tag: str, message: str, ts: float) -> ServerEvent | None:
    program = tag.rsplit("/", 1)[-1].lower()
    if program in _CRONS:
        job, whole = _CRON_COMMAND(message), _ANACRON(message)
        if job:
            return JobStarted(ts, "cron", _cut(job["command"].rstrip().removesuffix(")")), job["user"])
        return JobStarted(ts, "cron", whole["command"]) if whole else None
    if program == "sudo":
        head, found, command = message.partition(" ; COMMAND=")
        operator = _SUDO_USER(head) if found else None
        return JobStarted(ts, "sudo", _cut(command), operator["user"]) if operator else None
    started = _STARTING(message) if _RUN_PARTS(tag) else None
    return JobStarted(ts, "cron", started["command"]) if started else None


def _storage(tag: str, message: str, ts: float) -> StorageError | None:
    for words, error in _ERRORS:
        head, found, tail = message.rpartition(words)
        if found and (_END(tail) or (tag == "rsyslogd" and _RSYSLOG_END(tail))):
            path = _PATH(head)
            return StorageError(ts, service_name(tag) or "system", error, path[1] if path else None)
    return None


def _cut(command: str) -> str:
    return command[:COMMAND_CHARACTERS]
