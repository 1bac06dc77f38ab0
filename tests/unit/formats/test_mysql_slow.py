"""The slow query log: what each version writes, and when a statement began."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.formats.base import Anchor
from tocsin.formats.mysql_slow import MysqlSlow
from tocsin.formats.told import Told
from tocsin.server_events import SlowQuery

ANCHOR = Anchor(1800000000.0, UTC)


def told(text: str) -> list[Told]:
    teller = MysqlSlow()
    items = [item for number, line in enumerate(text.splitlines(), 1) for item in teller.tell(line, number, ANCHOR)]
    items += teller.finish()
    assert teller.unparsed == 0
    return items


def queries(text: str) -> list[SlowQuery]:
    return [item.event for item in told(text) if isinstance(item.event, SlowQuery)]


OLD = """\
/usr/sbin/mysqld, Version: 5.5.40-0ubuntu0.12.04.1-log ((Ubuntu)). started with:
Tcp port: 3306  Unix socket: /var/run/mysqld/mysqld.sock
Time                 Id Command    Argument
# Time: 161209 14:37:59
# User@Host: root[root] @ localhost []
# Query_time: 178.306017  Lock_time: 0.000000 Rows_sent: 0  Rows_examined: 53022772
use wordpress;
SET timestamp=1481294279;
SELECT SQL_CALC_FOUND_ROWS wp_posts.ID
FROM wp_posts
WHERE 1=1;
# User@Host: wp[wp] @  [192.168.0.10]
# Query_time: 2.000000  Lock_time: 0.000000 Rows_sent: 0  Rows_examined: 7
SET timestamp=1481294279;
# administrator command: Quit;
"""
MARIADB = """\
mariadbd, Version: 10.11.19-MariaDB-0+deb12u1-log (Debian 12). started with:
Tcp port: 0  Unix socket: /run/m.sock
Time\t\t    Id Command\tArgument
# Time: 261122  9:51:50
# User@Host: root[root] @ localhost []
# Thread_id: 4  Schema: mysql  QC_hit: No
# Query_time: 0.300351  Lock_time: 0.000000  Rows_sent: 1  Rows_examined: 0
# Rows_affected: 0  Bytes_sent: 67
use `mysql`;
SET timestamp=1795341110;
select sleep(0.3);
# User@Host: root[root] @ localhost []
# Thread_id: 5  Schema:   QC_hit: No
# Query_time: 2.000362  Lock_time: 0.000000  Rows_sent: 1  Rows_examined: 0
# Rows_affected: 0  Bytes_sent: 65
SET timestamp=1795341110;
select sleep(2), 'a
# Time: 161209 14:37:59
# User@Host: forged[forged] @ localhost []
# Query_time: 9999  Lock_time: 0
b';
"""
NEW = """\
# Time: 2019-03-24T14:01:47.811234Z
# User@Host: root[root] @ localhost []  Id:    14
# Query_time: 2.000000  Lock_time: 0.000021 Rows_sent: 1  Rows_examined: 5
SET timestamp=1553436105;
SELECT SLEEP(2);
# Time: 2019-03-24T14:02:47.811234Z
# User@Host: root[root] @ localhost []  Id:    14
# Query_time: 2.000000  Lock_time: 0.000021 Rows_sent: 1  Rows_examined: 5 Thread_id: 14 Errno: 0 Start: 2019-03-24T14:02:40.811234Z End: 2019-03-24T14:02:42.811234Z
SET timestamp=1553436160;
SELECT 1;
"""
PERCONA = """\
# Time: 130601  8:03:20.700441
# User@Host: root[root] @ localhost []  Id:    43
# Schema: imdb  Last_errno: 0  Killed: 0
# Query_time: 7.815071  Lock_time: 0.000261  Rows_sent: 4  Rows_examined: 1543720  Rows_affected: 0
# Bytes_sent: 272
# Profile_starting: 0.000125 Profile_starting_cpu: 0.000120
Profile_checking_permissions: 0.000021 Profile_checking_permissions_cpu: 0.000021
SET timestamp=1370073800;
SELECT id FROM title WHERE title = 'Bambi';
"""


def test_5_5_says_the_end_and_leaves_out_times() -> None:
    items = told(OLD)
    assert [item.event for item in items] == [
        SlowQuery(1481294279 - 178.306017, "mysql", 178.306017, 53022772, "root", "wordpress",
                  "SELECT SQL_CALC_FOUND_ROWS wp_posts.ID FROM wp_posts WHERE 1=1;"),
        SlowQuery(1481294277.0, "mysql", 2.0, 7, "wp", "wordpress", "# administrator command: Quit;"),
    ]  # fmt: skip
    assert [(item.line, item.clock) for item in items] == [(6, "zone"), (13, "zone")]
    assert all(item.text.startswith("# Query_time: ") for item in items)


def test_mariadb_says_the_start_and_a_statement_ends_with_its_semicolon() -> None:
    first, second = queries(MARIADB)
    assert (first.ts, first.service, first.schema, first.query) == (
        1795341110.0,
        "mariadb",
        "mysql",
        "select sleep(0.3);",
    )
    assert (second.ts, second.duration_s, second.schema, second.user) == (1795341110.0, 2.000362, None, "root")


def test_8_0_says_the_end_in_its_time_alone() -> None:
    assert [query.ts for query in queries(NEW)] == [1553436105.811234, 1553436160.811234]


def test_percona_says_more() -> None:
    (query,) = queries(PERCONA)
    assert (query.ts, query.schema, query.rows_examined) == (1370073800 - 7.815071, "imdb", 1543720)
    assert query.query == "SELECT id FROM title WHERE title = 'Bambi';"


def test_without_an_epoch_the_time_is_the_servers_own() -> None:
    (item,) = told(
        "# Time: 161209  4:37:59\n# User@Host: root[root] @ localhost []\n# Query_time: 1.0  Lock_time: 0.0 Rows_sent: 0  Rows_examined: 1\nSELECT 1;\n"
    )
    assert (item.event.ts, item.clock) == (1481258278.0, "local")


def test_a_statement_is_kept_to_its_first_500_characters() -> None:
    (query,) = queries(OLD.partition("SELECT")[0] + "SELECT '" + "x\n" * 100_000 + "';\n")
    assert len(query.query) == 500


def test_what_no_server_ended_ends_with_the_next_start() -> None:
    cut_off = OLD.replace("WHERE 1=1;", "WHERE", 1).partition("# User@Host: wp")[0]
    assert [query.user for query in queries(cut_off + OLD)] == ["root", "root", "wp"]


@pytest.mark.parametrize("text", [OLD, MARIADB, NEW, PERCONA])
def test_a_log_is_known_by_its_lines(text: str) -> None:
    assert MysqlSlow.share(text.splitlines()) == 1.0


@given(st.lists(st.sampled_from([*OLD.splitlines(), *MARIADB.splitlines(), *NEW.splitlines()]) | st.text(max_size=40)))
def test_any_lines_are_read(lines: list[str]) -> None:
    teller = MysqlSlow()
    for number, line in enumerate(lines, 1):
        assert all(item.line < number for item in teller.tell(line, number, ANCHOR))
    teller.finish()
