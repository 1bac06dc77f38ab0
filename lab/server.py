"""One server of the lab: web server, PHP, WordPress and MariaDB in a space of their own, logging under stock paths."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import configs
from journal import KernelLine, KernelLog, Syslog, as_dmesg
from services import Supervisor, Unit
from snapshots import Snapshots
from space import Mount, Repeating, Space
from stack import Site, Stack
from wordpress import ADMIN, ADMIN_PASSWORD, Template, template

MYSQL_SOCKET, FPM_SOCKET = "/run/mysqld/mysqld.sock", "/run/php/php8.2-fpm.sock"
ADDRESS = "192.0.2.80"
APACHE_ENV = {
    "APACHE_RUN_USER": "www-data", "APACHE_RUN_GROUP": "www-data", "APACHE_PID_FILE": "/run/apache2/apache2.pid",
    "APACHE_RUN_DIR": "/run/apache2", "APACHE_LOCK_DIR": "/run/lock/apache2", "APACHE_LOG_DIR": "/var/log/apache2",
}  # fmt: skip
# The plugins of a grown site, in one: they hold memory, and they turn the template's paths of images into this site's.
PLUGIN = """<?php
$page_builder = str_repeat('x', BYTES);
add_filter('the_content', fn($text) => str_replace('"/wp-content/', '"' . content_url('/'), $text));
"""
LOG_ROOTS = ("apache2", "nginx", "mysql")


class Server:
    """A context manager: inside it the server runs and is supervised; at its end nothing of it is left."""

    def __init__(self, stack: Stack, hostname: str = "web1") -> None:
        """Nothing is made before the context is entered. `address` is the server's own."""
        self.stack, self.hostname, self.address = stack, hostname, ADDRESS
        self.space = Space(hostname, self.address, stack.memory_bytes, stack.cpu_share)
        self.space.environment["TZ"] = stack.tz
        self.clients_netns = self.space.clients
        self.web: list[str] = ["apache2"] if stack.web == "apache" else ["php8.2-fpm", "nginx"]
        self.syslog = Syslog(
            lambda: self.space.root / "var/log", hostname, stack.tz, iso=stack.kernel_log == "syslog-iso"
        )
        self._made: Template | None = None

    def __enter__(self) -> Self:
        """Make the space, start the services; what is half made is taken apart if that fails."""
        self._made = template()
        with ExitStack() as ending:
            ending.callback(self.space.close)
            self.space.open()
            self._lay_out()
            self.kernel = KernelLog(self.space.memory, self._write_kernel)
            ending.callback(self.kernel.stop)
            self.kernel.start()
            killed = self.kernel.killed
            self.supervisor = Supervisor(self.space, self.syslog, lambda: killed, told=self.stack.supervised)
            self._start_services()
            self.samples = Snapshots(self)
            calls: list[tuple[Callable[[], None], float]] = [
                (self.supervisor.look, 0.1),
                (self.supervisor.watch, 0.5),
                (self.samples.measure, 1.0),
            ]
            if self.stack.snapshots_s is not None:
                calls.append((self.samples.take, self.stack.snapshots_s))
            for call, every_s in calls:
                repeating = Repeating(call, every_s)
                ending.callback(repeating.stop)
                repeating.start()
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching and take all apart; raises what the watching died of."""
        self._ending.close()

    @property
    def site(self) -> Site:
        """What is to be found on it."""
        assert self._made is not None
        base = self.stack.wp_path.rstrip("/")
        made = self._made
        return Site(
            prefix=self.stack.wp_path,
            posts=[base + path for path in made.posts[: self.stack.posts]],
            categories=[base + path for path in made.categories],
            assets=[base + path for path in made.assets],
            admin=(ADMIN, ADMIN_PASSWORD),
        )

    def _lay_out(self) -> None:
        """Directories of our own below the stock paths."""
        assert self._made is not None
        home, space, made = self.space.home, self.space, self._made
        for name in ("etc", "log", "mysql", "html", "bin", "tmp", "proc", "mu-plugins"):
            (home / name).mkdir()
        (home / "tmp").chmod(0o1777)
        configs.write_all(self.stack, home / "etc", self.address, self.hostname)
        below = home / "html" / self.stack.wp_path.strip("/")
        below.mkdir(parents=True, exist_ok=True)
        if self.stack.wp_path != "/":
            (home / "html/index.html").write_text(f"<title>{self.stack.vhost}</title><h1>{self.stack.vhost}</h1>\n")
        for name in ("meminfo", "loadavg"):
            shutil.copy(f"/proc/{name}", home / "proc" / name)
        space.outside("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
        etc = [Mount(home / "etc" / name, f"/etc/{name}") for name in (*configs.STOCK, "hosts", "resolv.conf")]
        space.mount(
            [
                *etc,
                Mount(home / "log", "/var/log"),
                Mount(home / "mysql", "/var/lib/mysql"),
                Mount(home / "html", "/var/www/html"),
                Mount(home / "bin", "/usr/local/bin"),
                Mount(home / "tmp", "/tmp"),  # noqa: S108 - inside the server
                Mount(made.tree, f"/var/www/html{self.stack.wp_path}"),
                Mount(home / "etc/wp-config.php", f"/var/www/html{self.stack.wp_path}wp-config.php"),
                Mount(home / "mu-plugins", f"/var/www/html{self.stack.wp_path}wp-content/mu-plugins"),
                Mount(home / "proc/meminfo", "/proc/meminfo"),
                Mount(home / "proc/loadavg", "/proc/loadavg"),
            ]
        )
        (home / "mu-plugins/page-builder.php").write_text(PLUGIN.replace("BYTES", str(self.stack.plugin_bytes)))
        if self.stack.small_disk is not None:
            self._mount_small(*self.stack.small_disk)
        space.outside("cp", "-a", "--reflink=auto", f"{made.database}/.", "/var/lib/mysql/")
        self._make_directories()

    def _mount_small(self, where: str, free_bytes: int) -> None:
        """A file system of its own for the database or the logs, with so much room beside what they need."""
        assert self._made is not None
        needs = sum(path.stat().st_size for path in self._made.database.rglob("*") if path.is_file())
        image = self.space.home / f"{where}.img"
        target = "/var/lib/mysql" if where == "mysql" else "/var/log"
        # ext4's own tables take about a fortieth, its journal 4 MiB; the redo log and ibtmp1 come with the first start.
        size = int(1.03 * (free_bytes + (needs + 16 * 2**20 if where == "mysql" else 0))) + 8 * 2**20
        with image.open("wb") as file:
            file.truncate(size)
        self.space.outside("mkfs.ext4", "-q", "-m", "0", "-J", "size=4", str(image))
        self.space.outside("mount", "-o", "loop", str(image), target)
        self.space.outside("chown", "mysql:mysql" if where == "mysql" else "root:root", target)

    def _make_directories(self) -> None:
        log, run = self.space.root / "var/log", self.space.root / "run"
        for name, owner in (("apache2", "root"), ("nginx", "www-data"), ("mysql", "mysql"), ("app", "www-data")):
            (log / name).mkdir()
            shutil.chown(log / name, owner, "adm")
        for name, owner in (
            ("mysqld", "mysql"),
            ("apache2", "root"),
            ("php", "www-data"),
            ("lock/apache2", "www-data"),
        ):
            (run / name).mkdir(parents=True)
            shutil.chown(run / name, owner)

    def _units(self) -> Iterator[Unit]:
        """What runs on it, in the order of starting."""
        yield Unit(
            name="mariadb",
            description="MariaDB 10.11 database server",
            argv=["/usr/sbin/mariadbd", "--user=mysql"],
            tag="mariadbd",
            ready=lambda pid: accepts(pid, MYSQL_SOCKET),
            restart="on-abnormal",
            restart_s=5.0,
        )
        if self.stack.web == "apache":
            yield Unit(
                name="apache2",
                description="The Apache HTTP Server",
                argv=["/usr/sbin/apache2", "-DFOREGROUND"],
                tag="apachectl",
                forking=True,
                ready=lambda pid: listens(pid) and self._names(APACHE_ENV["APACHE_PID_FILE"], pid),
                restart="on-abort",
                environment=APACHE_ENV,
            )
            return
        yield Unit(
            name="php8.2-fpm",
            description="The PHP 8.2 FastCGI Process Manager",
            argv=["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/php/8.2/fpm/php-fpm.conf"],
            tag="php-fpm8.2",
            after_oom="stop" if self.stack.supervised else "continue",
            operator_s=20.0 if self.stack.supervised else None,
            ready=lambda pid: accepts(pid, FPM_SOCKET),
        )
        yield Unit(
            name="nginx",
            description="A high performance web server and a reverse proxy server",
            argv=["/usr/sbin/nginx", "-g", "daemon off; master_process on;"],
            tag="nginx",
            forking=True,
            ready=listens,
            stop_signal=signal.SIGQUIT,
        )

    def _names(self, pid_file: str, pid: int) -> bool:
        """Whether a pid file names this process: Apache listens before it has read the configuration of its modules."""
        try:
            return (self.space.root / pid_file.lstrip("/")).read_text().strip() == str(pid)
        except OSError:
            return False

    def _start_services(self) -> None:
        for unit in self._units():
            self.supervisor.add(unit)
            if not self.supervisor.start(unit.name):
                raise RuntimeError(f"{unit.name} did not start:\n{self._last_words()}")

    def _write_kernel(self, line: KernelLine) -> None:
        """Where the kernel's lines go on this machine; Debian's rsyslog writes them to kern.log and to syslog."""
        if self.stack.kernel_log == "kern.log":
            self.syslog.write("kernel", as_dmesg(line), line.ts, "kern.log")
            self.syslog.write("kernel", as_dmesg(line), line.ts)
        elif self.stack.kernel_log == "syslog-iso":
            self.syslog.write("kernel", line.text, line.ts)

    def open_prefixes(self, prefixes: list[str]) -> None:
        """Let clients come from these networks."""
        self.space.open_prefixes(prefixes)

    def run(self, argv: list[str], **how: Any) -> subprocess.Popen[bytes]:
        """Start a program inside, within the server's limits."""
        return self.space.start(argv, **how)

    def restart(self, what: Literal["mariadb", "web"]) -> bool:
        """Stop and start, as an operator does; says whether it came up."""
        came_up = [self.supervisor.restart(name) for name in (["mariadb"] if what == "mariadb" else self.web)]
        return all(came_up)

    def reload(self) -> None:
        """A graceful reload of the web server."""
        self.supervisor.reload(self.web[-1], signal.SIGUSR1 if self.stack.web == "apache" else signal.SIGHUP)

    def web_pids(self) -> list[int]:
        """The main processes of the web server's services that live."""
        processes = [self.supervisor.services[name].process for name in self.web]
        return [process.pid for process in processes if process is not None and process.poll() is None]

    def oom_kills(self) -> int:
        """How many processes of this server the kernel has killed for memory."""
        return len(self.kernel.killed)

    def dead(self) -> list[str]:
        """Services that do not run now."""
        return [name for name, service in self.supervisor.services.items() if service.state != "running"]

    def collect(self, logs: Path) -> None:
        """Write what the machine has logged below `logs`: var/log/..., snapshots/..."""
        if not self.kernel.is_alive():
            raise RuntimeError("the reader of the kernel's log has died: its lines are not whole")
        target = logs / "var/log"
        target.mkdir(parents=True)
        if (self.space.home / "snapshots").exists():
            shutil.copytree(self.space.home / "snapshots", logs / "snapshots")
        source = self.space.root / "var/log"
        for path in sorted(source.rglob("*")):
            relative = path.relative_to(source)
            if path.is_file() and path.stat().st_size and (len(relative.parts) == 1 or relative.parts[0] in LOG_ROOTS):
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target / relative)
        if self.stack.kernel_log == "dmesg" and self.kernel.lines:
            text = "".join(as_dmesg(line) + "\n" for line in self.kernel.lines)
            (target / "dmesg").write_text(text)

    def _last_words(self) -> str:
        files = [path for path in (self.space.root / "var/log").rglob("*") if path.is_file()]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in files)


def accepts(pid: int, path: str) -> bool:
    """Whether somebody listens at this socket in the network namespace of this process. A probe would leave a line."""
    try:
        rows = Path(f"/proc/{pid}/net/unix").read_text().splitlines()
    except OSError:
        return False
    return any(row.endswith(f" {path}") and row.split()[3] == "00010000" for row in rows)


def listens(pid: int) -> bool:
    """Whether port 80 is listened at in the network namespace of this process."""
    try:
        tables = Path(f"/proc/{pid}/net/tcp").read_text() + Path(f"/proc/{pid}/net/tcp6").read_text()
    except OSError:
        return False
    return any(
        row.split()[1].endswith(":0050") and row.split()[3] == "0A" for row in tables.splitlines() if ": " in row
    )
