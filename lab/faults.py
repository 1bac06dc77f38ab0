"""What is done to a server at a moment of a run: jobs, full disks, programs that die of themselves, harmless noise."""

from __future__ import annotations

import json
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server import Server

JOB = """#!/usr/bin/python3
import json, os, time
told = json.loads(os.environ["LAB_JOB"])
processes = told.get("processes", 1)
for _ in range(processes - 1):
    if os.fork() == 0:
        break
taken, began_s, mine = [], time.monotonic(), told["bytes"] // processes
whole_s = told["seconds"] + told["hold_s"]
while (passed_s := time.monotonic() - began_s) < whole_s:
    due = int(mine * min(1.0, passed_s / told["seconds"])) >> 20
    while len(taken) < due:
        taken.append(b"x" * (1 << 20))
    if told.get("busy"):
        sum(range(200000))
    else:
        time.sleep(0.05)
"""
FILLERS = ("mydumper", "export-tables", "nightly-dump", "copy-archive")
FILL = """#!/usr/bin/python3
import os, sys, time
path, seconds = sys.argv[1], float(os.environ["LAB_SECONDS"])
os.makedirs(os.path.dirname(path), exist_ok=True)
descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
state = os.fstatvfs(descriptor)
step = max(65536, int(state.f_bavail * state.f_frsize / max(1.0, seconds * 10)))
end_s = time.monotonic() + 600
while time.monotonic() < end_s:
    for size in (step, 4096):
        try:
            os.write(descriptor, b"INSERT INTO archive VALUES (0);\\n" * (size // 32))
            break
        except OSError:
            continue
    time.sleep(0.1)
"""
# PHP's own functions that call back recurse on the C stack, whose end is a segmentation fault.
CRASH_PHP = "function lab_each($x) { return array_map('lab_each', [$x]); }\n"
NOTICE_PHP = 'if (mt_rand(1, 20) == 1) trigger_error("Undefined array key \\"layout\\"", E_USER_WARNING);\n'
CRASH_C = "__attribute__((constructor)) static void load(void) { *(volatile int *)0 = 0; }\n"


class Faults:
    """Carries out the faults of one run. Those that take time run in processes of their own."""

    def __init__(self, server: Server) -> None:
        """Nothing done yet. `told` says what was done when."""
        self._server = server
        self._again: list[Callable[[], bool]] = []
        self.told: list[tuple[float, str]] = []
        self._kinds: dict[str, Callable[[dict[str, Any]], None]] = {
            "local-job": self._local_job,
            "fill-disk": self._fill_disk,
            "crash": self._crash,
            "reload": lambda _: server.reload(),
            "cron": self._cron,
            "restart-db": lambda _: self._note("mariadb up", server.restart("mariadb")),
            "restart-web": lambda _: self._note("web up", server.restart("web")),
            "slow-query": self._slow_query,
            "php-error": lambda _: self._plugin("notices", NOTICE_PHP),
        }

    def do(self, kind: str, params: dict[str, Any]) -> None:
        """Carry one out. KeyError for a kind that there is not."""
        self.told.append((time.time(), kind))
        self._kinds[kind](params)

    def look(self) -> None:
        """Start anew what was killed and is run again."""
        self._again = [each for each in self._again if not each()]

    def _note(self, what: str, value: object) -> None:
        self.told.append((time.time(), f"{what}: {value}"))

    def _local_job(self, params: dict[str, Any]) -> None:
        server, name = self._server, str(params["name"])
        script = server.space.home / "bin" / name
        script.write_text(JOB)
        script.chmod(0o755)
        argv = [f"/usr/local/bin/{name}", *str(params["args"]).split()]
        environment = {**server.space.environment, "LAB_JOB": json.dumps(params)}

        def start() -> subprocess.Popen[bytes]:
            process = server.run(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if params.get("from_cron"):
                self._cron_line(process.pid, " ".join(argv))
            return process

        process = start()

        def killed() -> bool:
            if process.poll() is None or process.returncode == 0:
                return process.poll() == 0
            start()
            return True

        if params.get("again"):
            self._again.append(killed)

    def _cron_line(self, pid: int, command: str) -> None:
        """As Debian's cron writes it, by the process that cron forked for the job."""
        self._server.syslog.write(f"CRON[{pid - 1}]", f"(root) CMD ({command.strip()})")

    def _cron(self, params: dict[str, Any]) -> None:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = self._server.run(["timeout", "10", "sh", "-c", str(params["command"])], **quiet)
        self._cron_line(process.pid, str(params["command"]))

    def _fill_disk(self, params: dict[str, Any]) -> None:
        path = str(params["path"])
        name = FILLERS[zlib.crc32(path.encode()) % len(FILLERS)]
        script = self._server.space.home / "bin" / name
        script.write_text(FILL)
        script.chmod(0o755)
        environment = {**self._server.space.environment, "LAB_SECONDS": str(params["seconds"])}
        self._server.run(
            [f"/usr/local/bin/{name}", path], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _slow_query(self, params: dict[str, Any]) -> None:
        seconds = float(params["seconds"])
        query = f"SELECT COUNT(*), SLEEP({seconds}) FROM wordpress.wp_options WHERE option_id = 1"  # noqa: S608 - a number
        self._server.run(["mariadb", "-e", query], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _plugin(self, name: str, code: str) -> None:
        """Put a must-use plugin in, as an update would: PHP sees it within two seconds (opcache's own delay)."""
        draft = self._server.space.home / f"{name}.php"
        draft.write_text(f"<?php\n/* Plugin Name: {name} */\n{code}")
        draft.rename(self._server.space.home / "mu-plugins" / f"{name}.php")

    def _crash(self, params: dict[str, Any]) -> None:
        server, how = self._server, params["how"]
        etc = server.space.home / "etc"
        if how == "php-segfault":
            self._plugin("image-cache", f"{CRASH_PHP}if (mt_rand(1, {int(params['every'])}) == 1) lab_each(1);\n")
        elif how == "bad-my-cnf":
            (etc / "mysql/mariadb.conf.d/95-upgrade.cnf").write_text(f"[mysqld]\n{params['option']}\n")
            self._note("mariadb up", server.restart("mariadb"))
        elif how == "bad-web-conf":
            place = "apache2/conf-enabled/tuning.conf" if server.stack.web == "apache" else "nginx/conf.d/tuning.conf"
            (etc / place).write_text(f"{params['line']}\n")
            self._note("web up", server.supervisor.restart(server.web[-1]))
        elif how in ("bad-extension", "bad-preload"):
            self._bad_php(etc, str(how))
        else:
            raise ValueError(f"no such crash: {how}")

    def _bad_php(self, etc: Path, how: str) -> None:
        """An extension, or a script that opcache preloads, that crashes PHP as it starts; and a restart."""
        server = self._server
        place = server.space.home / "bin"
        flavour = etc / "php/8.2" / ("apache2" if server.stack.web == "apache" else "fpm")
        if how == "bad-extension":
            compiler = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(place / "imagemagick.so")]
            subprocess.run(compiler, input=CRASH_C.encode(), check=True)
            lines = "extension=/usr/local/bin/imagemagick.so\n"
        else:
            (place / "preload.php").write_text(f"<?php\n{CRASH_PHP}lab_each(1);\n")
            lines = "opcache.preload=/usr/local/bin/preload.php\nopcache.preload_user=www-data\n"
        (flavour / "conf.d/99-site.ini").write_text(lines)
        self._note("web up", server.supervisor.restart(server.web[0]))
