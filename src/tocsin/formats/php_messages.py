"""What PHP says of a request that failed, wherever it is written: its own log, FPM's, Apache's or nginx's.

PHP logs `PHP Fatal error:  TEXT in FILE on line N`; what FastCGI carries begins with `PHP message: `. Scripts may put
anything into their own messages (`error_log`, an exception's text): only PHP's own beginnings are read, and only in
their place.

Codes: `memory_limit`, `php-out-of-memory`, `max_execution_time`, `php-database`, `wordpress-database`, `php-fatal`.
"""

from __future__ import annotations

import re
from typing import Literal

from tocsin.formats.entries import DETAIL_CHARACTERS
from tocsin.server_events import AppError, ServerEvent, StorageError

Symptom = Literal["database-down", "backend-slow", "out-of-memory", "fatal"]

_FATAL = re.compile(r"PHP (?:(?:Recoverable |Catchable )?[Ff]atal error|Parse error|Core error|Compile error): +").match
# the client libraries' numbers: too many connections (1040, 1203, 1226), no server (2002, 2003), it went (2006, 2013)
_DATABASE_GONE = re.compile(
    r"\[(?:1040|1203|1226|2002|2003|2006|2013)\]|\((?:HY000|08004|42000)/(?:1040|1203|1226|2002|2003|2006|2013)\)"
    r"|Connection refused|Too many connections|No such file or directory|Connection timed out"
    r"|(?:MySQL|MariaDB) server has gone away|Lost connection to |Can't connect to |Error establishing a database"
)
_THROWN = re.compile(
    r"Uncaught (?:exception ')?(?:[A-Za-z]{1,60}\\){0,6}(?:PDOException|mysqli_sql_exception|QueryException"
    r"|ConnectionException|DriverException)\b"
).match
_CONNECTING = re.compile(
    r"PHP (?:Warning|Fatal error): +(?:mysqli?(?:_p?connect|_real_connect|_query|::__construct|::real_connect|::query)"
    r"|PDO::(?:__construct|query|exec)|PDOStatement::execute|pg_p?connect)\(\): "
).match
_WORDPRESS = "WordPress database error "
_NO_SPACE = re.compile(
    r"PHP (?:Warning|Notice|Fatal error): +[A-Za-z0-9_:\\]{1,80}\([^()]{0,500}\): "
    r"(?:Failed to open stream: |failed to open stream: |[Ww]rite of [0-9]{1,20} bytes failed with errno=28 "
    r"|write failed: |open\([^()]{1,300}\) failed: )?No space left on device"
).match
_RELAYED = re.compile(r"PHP message: (?=PHP |WordPress )")
_ERROR_TEXT = 200
_MOST_RELAYED = 50


def php_event(ts: float, text: str, source_ip: str | None = None) -> ServerEvent | None:
    """What a message that begins with PHP's (or WordPress's) own words tells; None of notices and warnings."""
    if text.startswith(_WORDPRESS):
        query = text.find(" for query ", len(_WORDPRESS), len(_WORDPRESS) + _ERROR_TEXT)
        gone = _DATABASE_GONE.match(text, len(_WORDPRESS), query if query > 0 else len(_WORDPRESS) + _ERROR_TEXT)
        return _error(ts, "error", "wordpress-database", "database-down" if gone else None, source_ip, text)
    if not text.startswith("PHP "):
        return None
    if _NO_SPACE(text):
        return StorageError(ts, "php", "full")
    connecting = _CONNECTING(text)
    if connecting:
        if _DATABASE_GONE.search(text, connecting.end(), connecting.end() + _ERROR_TEXT) is None:
            return None
        return _error(ts, "warning", "php-database", "database-down", source_ip, text)
    fatal = _FATAL(text)
    if fatal is None:
        return None
    code, symptom = _fatal(text, fatal.end())
    return _error(ts, "fatal", code, symptom, source_ip, text)


def _fatal(text: str, start: int) -> tuple[str, Symptom]:
    if text.startswith("Allowed memory size of ", start):
        return "memory_limit", "out-of-memory"
    if text.startswith("Out of memory", start):
        return "php-out-of-memory", "out-of-memory"
    if text.startswith("Maximum execution time of ", start):
        return "max_execution_time", "backend-slow"
    thrown = _THROWN(text, start)
    if thrown and _DATABASE_GONE.search(text, thrown.end(), thrown.end() + _ERROR_TEXT):
        return "php-database", "database-down"
    return "php-fatal", "fatal"


def _error(ts: float, level: str, code: str, symptom: Symptom | None, source_ip: str | None, text: str) -> AppError:
    return AppError(ts, "php", level, code, symptom, source_ip, text[:DETAIL_CHARACTERS])


def relayed_event(ts: float, text: str, source_ip: str | None = None) -> ServerEvent | None:
    """What the first telling one of the messages says that FastCGI carried (`PHP message: ...` one after another)."""
    for count, found in enumerate(_RELAYED.finditer(text)):
        event = php_event(ts, text[found.end() : found.end() + 4 * DETAIL_CHARACTERS], source_ip)
        if event is not None:
            return event
        if count >= _MOST_RELAYED:
            break
    return None
