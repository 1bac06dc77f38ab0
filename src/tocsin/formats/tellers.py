"""Which kind of log a file is, by its content: the tellers there are, and the one that fits some first lines best."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.formats.apache_error import ApacheError
from tocsin.formats.jobs import AptHistory, DpkgLog, Fail2banLog
from tocsin.formats.kernel import KernelLog
from tocsin.formats.mysql import MysqlError
from tocsin.formats.mysql_slow import MysqlSlow
from tocsin.formats.nginx_error import NginxError
from tocsin.formats.php import FpmLog, FpmSlow, PhpErrors
from tocsin.formats.postgres import PostgresLog
from tocsin.formats.snapshots.snapshot import Snapshot
from tocsin.formats.system import SystemLog
from tocsin.formats.told import Teller

TELLERS: tuple[type[Teller], ...] = (
    SystemLog,
    KernelLog,
    ApacheError,
    NginxError,
    FpmLog,
    FpmSlow,
    PhpErrors,
    MysqlError,
    MysqlSlow,
    PostgresLog,
    DpkgLog,
    AptHistory,
    Fail2banLog,
    Snapshot,
)
"""Of those that fit equally well the first is taken: the strict ones stand before those that take in much."""

LEAST_SHARE = 0.5


def teller_for(lines: Sequence[str]) -> tuple[Teller, float] | None:
    """A new teller of the kind that fits the largest share of a file's first lines, and that share; None where no kind
    fits half of them.
    """
    if not any(map(str.strip, lines)):
        return None  # to what may continue an entry, nothing but blanks looks like all of one
    best: tuple[type[Teller], float] | None = None
    for kind in TELLERS:
        share = kind.share(lines)
        if share >= LEAST_SHARE and (best is None or share > best[1]):
            best = kind, share
    return None if best is None else (best[0](), best[1])
