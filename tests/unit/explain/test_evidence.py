"""From a folder of logs to a dossier: every file is named, whatever is wrong with it, and the rest is still read."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tocsin.explain.evidence.files import NGINX_COMBINED, Access, Typing, find, vhost_of
from tocsin.explain.evidence.gather import gather
from tocsin.explain.evidence.machine import find_own
from tocsin.explain.model import Coverage, Dossier
from tocsin.formats import Anchor
from tocsin.model import Signature
from tocsin.server_events import AppError, LimitReached, ProcessKilled

BASE_TS = 1_466_421_600  # 20 June 2016, 13:20 at +0200
NOW_TS = 1_700_000_000.0
ALL = (0.0, 2e9)
DMESG = """\
[4747880.173192] Out of memory: Kill process 6898 (apache2) score 102 or sacrifice child
[4747880.176918] Killed process 6898 (apache2) total-vm:319164kB, anon-rss:61624kB, file-rss:41932kB
"""
AUDIT = '[4747881.577925] type=1400 audit(1466221659.162:47): apparmor="STATUS" pid=6963 comm="apparmor_parser"\n'
FULL = "server reached MaxRequestWorkers setting, consider raising the MaxRequestWorkers setting"
SYSLOG = "Jun 20 13:25:01 web CRON[770]: (root) CMD (/root/backup.sh)\n" * 3


def access(count: int = 200, step_s: int = 1, start_s: int = 0) -> str:
    lines = []
    for number in range(count):
        when = datetime.fromtimestamp(BASE_TS + start_s + 7200 + number * step_s, UTC)
        lines.append(
            f'192.0.2.{number % 200} - - [{when:%d/%b/%Y:%H:%M:%S} +0200] "GET /{number} HTTP/1.1" 200 5 "-" "x"\n'
        )
    return "".join(lines)


def apache_error(local: str) -> str:
    return f"[Mon Jun 20 {local}.000000 2016] [mpm_prefork:error] [pid 2029] AH00161: {FULL}\n"


def cover(dossier: Dossier, name: str) -> Coverage:
    return next(one for one in dossier.coverage if one.source.endswith(name))


def said(coverage: Coverage) -> str:
    return " ".join(note.text for note in coverage.notes)


def read(*paths: Path, now_ts: float | None = NOW_TS) -> Dossier:
    return gather(paths, now_ts, UTC)


def test_a_folder_of_many_kinds_is_one_story(tmp_path: Path) -> None:
    (tmp_path / "shop.example-access.log").write_text(access())
    (tmp_path / "error.log").write_text(apache_error("13:20:30"))
    (tmp_path / "dmesg.txt").write_text(DMESG + AUDIT)
    (tmp_path / "syslog").write_text(SYSLOG)
    seen: list[tuple[int, int]] = []
    dossier = gather([tmp_path], NOW_TS, UTC, lambda done, total: seen.append((done, total)))
    assert {one.kind for one in dossier.coverage} == {"access", "error", "kernel", "system"}
    killed, full, job = dossier.facts
    assert isinstance(killed.event, ProcessKilled)
    assert killed.ts == pytest.approx(1466221657.76, abs=0.01)
    assert isinstance(full.event, LimitReached)
    assert (full.ts, full.line, full.text) == (BASE_TS + 30, 1, apache_error("13:20:30")[:-1])
    assert (job.ts, job.count) == (BASE_TS + 301, 3)
    assert dossier.zone_s == 7200
    assert dossier.notes[0].args == {"zone": "+02:00"}
    assert dossier.accesses.groups(*ALL)[0].vhost == "shop.example"
    assert seen[-1] == (sum(path.stat().st_size for path in tmp_path.iterdir()),) * 2


def test_what_is_wrong_with_each_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(access())
    packed = gzip.compress(os.urandom(20).hex().encode() * 2000 + access(5000).encode())
    (tmp_path / "access.log.2.gz").write_bytes(gzip.compress(access(5000, start_s=-9000).encode())[:-500])
    (tmp_path / "cut.log").write_text(access(20)[:-30])
    (tmp_path / "nul.log").write_bytes(access(20).encode() + b"\0" * 99 + b"\n")
    (tmp_path / "hole.log").write_bytes(b"\0" * 200_000 + access(20).encode())
    (tmp_path / "empty.log").touch()
    (tmp_path / "binary.journal").write_bytes(packed[10:] + bytes(range(256)) * 10)
    (tmp_path / "poem.txt").write_text("Ring the alarm bell\nof nothing at all\n" * 9)
    (tmp_path / "gone.log").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    dossier = read(tmp_path)
    assert {one.source.rpartition("/")[2]: one.kind for one in dossier.coverage} == {
        "access.log": "access", "access.log.2.gz": "access", "cut.log": "access", "nul.log": "access",
        "hole.log": "access",
        "empty.log": "empty", "binary.journal": "unread", "poem.txt": "unknown", "gone.log": "unread", "pipe": "unread",
    }  # fmt: skip
    assert "to its end" in said(cover(dossier, "2.gz"))
    assert "cut off" in said(cover(dossier, "cut.log"))
    assert "NUL bytes" in said(cover(dossier, "nul.log"))
    assert (cover(dossier, "hole.log").lines, cover(dossier, "hole.log").unparsed) == (20, 1)
    assert all(one.notes for one in dossier.coverage if one.kind != "access")
    assert (cover(dossier, "poem.txt").lines, cover(dossier, "poem.txt").unparsed) == (18, 18)
    assert (cover(dossier, "cut.log").lines, cover(dossier, "cut.log").unparsed) == (20, 1)
    assert dossier.accesses.requests == sum(one.lines - one.unparsed for one in dossier.coverage)


def test_the_zone_of_the_journal_is_taken_where_no_access_log_names_one(tmp_path: Path) -> None:
    kill = "2026-06-21T05:18:20+02:00 app1 kernel: Out of memory: Killed process 9 (ledgerd)\n"
    (tmp_path / "journal.log").write_text(kill * 12)
    (tmp_path / "error.log").write_text(apache_error("13:20:30"))
    dossier = read(tmp_path)
    assert dossier.zone_s == 7200
    assert "system's logs" in dossier.notes[0].text
    (tmp_path / "journal.log").unlink()
    dossier = read(tmp_path)
    assert dossier.zone_s is None
    assert "No log names a zone" in dossier.notes[0].text


def test_an_empty_folder_and_a_missing_file_are_part_of_the_answer(tmp_path: Path) -> None:
    dossier = read(tmp_path, tmp_path / "missing.log")
    assert [(one.kind, one.lines) for one in dossier.coverage] == [("empty", 0), ("unread", 0)]
    assert (dossier.facts, dossier.accesses.start, dossier.zone_s) == ((), None, None)


READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from tocsin.explain.evidence.gather import gather
if os.geteuid() == 0:
    gather([Path(sys.argv[1])], None, None, None)  # so that all is imported that nobody may not be able to
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
(covered,) = gather([Path(sys.argv[1])], None, None, None).coverage
print(covered.kind, *(note.text for note in covered.notes))
"""


def test_a_file_that_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "access.log").write_text(access())
        (Path(folder) / "access.log").chmod(0)
        command = [sys.executable, "-c", READ_AS_NOBODY, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.startswith("unread "), done.stderr


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "zip"])
def test_archives_are_read_in_memory_and_their_names_are_no_paths(tmp_path: Path, suffix: str) -> None:
    files: dict[str, bytes] = {
        "../../etc/passwd\x1b[31m-access.log": access(50).encode(),
        "logs/error.log": apache_error("13:20:30").encode(),
        "logs/access.log.1.gz": gzip.compress(access(300, start_s=-1000).encode()),
    }
    archive = tmp_path / f"case.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in files.items():
                packed.writestr(name, data)
    else:
        with tarfile.open(archive, f"w:{suffix.partition('.')[2]}") as tar:  # type: ignore[call-overload]
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(data), BASE_TS
                tar.addfile(member, io.BytesIO(data))
            link = tarfile.TarInfo("logs/secret")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
            tar.addfile(link)
    dossier = read(archive)
    assert dossier.accesses.requests == 350
    assert dossier.facts[0].source == f"{archive}!logs/error.log"
    assert not any("\x1b" in one.source for one in dossier.coverage)
    quote = dossier.accesses.quotes(Signature(path="/299"), *ALL)[0]
    assert (quote.source, quote.line) == (f"{archive}!logs/access.log.1.gz", 300)
    assert list(tmp_path.iterdir()) == [archive]


def test_a_damaged_archive_still_gives_what_stands_before_the_damage(tmp_path: Path) -> None:
    archive = tmp_path / "case.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for number in range(3):
            data = access(2000, start_s=number).encode() + os.urandom(50_000).hex().encode()
            member = tarfile.TarInfo(f"{number}-access.log")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    dossier = read(archive)
    assert dossier.accesses.requests >= 2000
    assert "to its end" in said(next(one for one in dossier.coverage if one.source == str(archive)))


def test_a_missing_year_is_that_of_the_logs_that_have_one(tmp_path: Path) -> None:
    (tmp_path / "syslog").write_text(SYSLOG)
    alone = read(tmp_path)
    assert datetime.fromtimestamp(alone.facts[0].ts, UTC).year == 2023  # the latest before now
    os.utime(tmp_path / "syslog", (BASE_TS + 999, BASE_TS + 999))
    written = read(tmp_path, now_ts=None)
    assert written.facts[0].ts == BASE_TS + 7501
    os.utime(tmp_path / "syslog")
    (tmp_path / "error.log").write_text(apache_error("13:20:30"))
    for now_ts in (None, NOW_TS):
        both = read(tmp_path, now_ts=now_ts)
        assert both.facts[1].ts == BASE_TS + 7501
        assert "year" in said(cover(both, "syslog"))


def test_a_year_that_was_guessed_from_where_the_access_log_begins_is_settled_by_all_of_it(tmp_path: Path) -> None:
    eighteen_months_s = 535 * 86_400
    (tmp_path / "access.log").write_text(access(1, start_s=-eighteen_months_s) + access())
    (tmp_path / "syslog").write_text("\0\0" + SYSLOG.replace("Jun 20", "Sep 20"))
    dossier = read(tmp_path)
    assert [datetime.fromtimestamp(fact.ts, UTC).year for fact in dossier.facts] == [2015]  # from 2015 alone: 2014
    assert dossier.facts[0].count == 3
    assert (cover(dossier, "syslog").lines, len(cover(dossier, "syslog").notes)) == (3, 2)


def test_a_log_in_another_zone_is_told_by_the_clients_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(access())
    denied = "AH01630: client denied by server configuration: /srv/www"
    (tmp_path / "error.log").write_text(
        "".join(
            f"[Mon Jun 20 07:20:{n:02}.000000 2016] [authz_core:error] [pid 1] [client 192.0.2.{n}:1] {denied}\n"
            for n in range(10)
        )
    )
    dossier = read(tmp_path)
    assert [fact.ts for fact in dossier.facts] == [BASE_TS + n for n in range(10)]
    assert cover(dossier, "error.log").notes[0].args == {"zone": "-04:00"}
    assert cover(dossier, "error.log").start == BASE_TS
    assert dossier.zone_s == 7200


def test_a_silence_is_a_gap_also_between_rotations(tmp_path: Path) -> None:
    (tmp_path / "access.log.1").write_text(access(600, 10))
    (tmp_path / "access.log").write_text(access(600, 10, 6000 + 1200))
    (tmp_path / "error.log").write_text(apache_error("13:20:30") + apache_error("17:20:30"))
    dossier = read(tmp_path)
    assert [(gap.start, gap.end) for gap in cover(dossier, "access.log.1").gaps] == [(BASE_TS + 5990, BASE_TS + 7200)]
    assert not cover(dossier, "/access.log").gaps
    assert not cover(dossier, "error.log").gaps


def test_facts_without_a_clock_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "dmesg").write_text(DMESG)
    dossier = read(tmp_path)
    assert not dossier.facts
    assert dossier.facts_without_time[0].ts == pytest.approx(4747880.18, abs=0.01)
    assert (dossier.coverage[0].start, dossier.coverage[0].lines) == (None, 2)


def test_a_flood_of_complaints_does_not_push_out_what_matters(tmp_path: Path) -> None:
    denied = "AH01630: client denied by server configuration: /srv/www"
    lines = [
        f"[Mon Jun 20 {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}.000000 2016] [authz_core:error] [pid 1]"
        f" [client 192.0.2.{n % 250}:1] {denied}\n"
        for n in range(30_000)
    ]
    (tmp_path / "error.log").write_text("".join(lines) + apache_error("13:20:30"))
    facts = read(tmp_path).facts
    assert sum(isinstance(fact.event, LimitReached) for fact in facts) == 1
    assert sum(fact.count for fact in facts) == 30_001
    assert len(facts) < 5_000
    assert isinstance(facts[-2].event, AppError)
    assert facts[-2].ts == BASE_TS - 10_860  # the last minute of them: 08:19


@pytest.mark.parametrize(
    ("name", "vhost"),
    [
        ("/var/log/shop.example-access.log", "shop.example"),
        ("ssl_www.example.org_access.log.2.gz", "www.example.org"),
        ("access.log", None),
        ("other_vhosts_access.log.1", None),
        ("access.log-20260101", None),
        ("site-2015-combined.log", None),
    ],
)
def test_virtual_hosts_by_file_name(name: str, vhost: str | None) -> None:
    assert vhost_of(name) == vhost


def test_a_machine_without_paths_is_read_by_its_configuration_and_usual_places(tmp_path: Path) -> None:
    for name in ("etc/nginx", "var/log/nginx", "var/log/apt"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/nginx/nginx.conf").write_text(
        "http { server { server_name www.example.org; access_log /var/log/nginx/www.log; } }\n"
    )
    for name in ("nginx/www.log", "nginx/www.log.1", "nginx/error.log", "syslog", "kern.log.2.gz", "lastlog"):
        (tmp_path / "var/log" / name).write_text("x\n")
    found = find_own(tmp_path)
    names = {file.name.removeprefix(f"{tmp_path}/var/log/"): file for file in found.files}
    assert set(names) == {"nginx/www.log", "nginx/www.log.1", "nginx/error.log", "syslog", "kern.log.2.gz"}
    assert names["nginx/www.log.1"].format


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ('apache %v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"', "vhost_combined"),
        ('apache %h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %D', "combined and more"),
        (f"nginx {NGINX_COMBINED} $request_time", "combined and more"),
        (f"nginx {NGINX_COMBINED}", "combined"),
        (f"nginx {NGINX_COMBINED} $upstream_status", f"nginx {NGINX_COMBINED} $upstream_status"),
        ("apache %h", "combined"),  # no time: by its lines
    ],
)
def test_what_a_configuration_spells_is_known_by_its_name(tmp_path: Path, spec: str, name: str) -> None:
    tail = " 200" if name.startswith("nginx") else " 1200" if name.endswith("more") else ""
    before = "www.example.org:80 " if name.startswith("vhost") else ""
    (tmp_path / "log").write_text("".join(f"{before}{line}{tail}\n" for line in access().splitlines()))
    (file,) = find([tmp_path]).files
    file.format = spec
    kind = Typing(Anchor(NOW_TS, UTC)).of(file)
    assert isinstance(kind, Access)
    assert kind.format.name == name
