"""The template of the lab's sites: a WordPress with 2,600 posts and its database, made once, outside the repository.

Every server starts from a copy of the database and reads the same tree of PHP files. The template is rebuilt when the
version of WordPress or MariaDB, or this recipe, changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from draws import WORDS

CACHE = Path(os.environ.get("TOCSIN_LAB_CACHE", "/var/cache/tocsin-lab"))
HERE = Path(__file__).resolve().parent
INSTALL = HERE / "wordpress_install.php"
DATABASE, DATABASE_USER, DATABASE_PASSWORD = "wordpress", "wordpress", "lab-database"
ADMIN, ADMIN_PASSWORD = "editor", "correct horse battery"
SETTINGS = (ADMIN, ADMIN_PASSWORD, "/%year%/%monthnum%/%postname%/", " ".join(WORDS))
MADE_WITHIN_S = 180.0


class Template(msgspec.Struct):
    """A finished template: `tree` is WordPress's files, `database` a stopped MariaDB's; the lists hold URLs' paths."""

    tree: Path
    database: Path
    posts: list[str]
    categories: list[str]
    assets: list[str]


def wp_config(home: str, constants: str = "") -> str:
    """A wp-config.php for a site whose address is `home` (without a slash at its end)."""
    keys = ("AUTH_KEY", "SECURE_AUTH_KEY", "LOGGED_IN_KEY", "NONCE_KEY")
    salts = [*keys, *(key.replace("KEY", "SALT") for key in keys)]
    lines = [f"define('{name}', '{hashlib.sha256(name.encode()).hexdigest()}');" for name in salts]
    return "\n".join(
        [
            "<?php",
            f"define('DB_NAME', '{DATABASE}');",
            f"define('DB_USER', '{DATABASE_USER}');",
            f"define('DB_PASSWORD', '{DATABASE_PASSWORD}');",
            "define('DB_HOST', 'localhost');",
            "define('DB_CHARSET', 'utf8mb4');",
            f"define('WP_HOME', '{home}');",
            f"define('WP_SITEURL', '{home}');",
            "define('WP_AUTO_UPDATE_CORE', false);",
            *lines,
            constants,
            "$table_prefix = 'wp_';",
            "if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');",
            "require_once ABSPATH . 'wp-settings.php';\n",
        ]
    )


def template() -> Template:
    """The template, made now if there is none of this version. Only one process makes it; others wait."""
    CACHE.mkdir(parents=True, exist_ok=True)
    home = CACHE / version()
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "site.json").exists():
            shutil.rmtree(home, ignore_errors=True)
            try:
                make(home)
            except BaseException:
                shutil.rmtree(home, ignore_errors=True)
                raise
    site = json.loads((home / "site.json").read_text())
    return Template(tree=home / "tree", database=home / "mysql", **site)


def version() -> str:
    """What the template depends on, as a short name."""
    words = ["dpkg-query", "-W", "-f", "${Package}=${Version} ", "wordpress", "mariadb-server"]
    packages = subprocess.run(words, capture_output=True, check=True).stdout
    return hashlib.sha256(packages + repr(SETTINGS).encode() + INSTALL.read_bytes()).hexdigest()[:16]


def make(home: Path) -> None:
    """Copy WordPress, start a database of our own on a socket of our own, install the site into it, stop it."""
    tree, database = home / "tree", home / "mysql"
    home.mkdir()
    home.chmod(0o755)
    shutil.copytree("/usr/share/wordpress", tree, symlinks=True)
    for link in (tree / "wp-config.php", tree / ".htaccess"):
        link.unlink(missing_ok=True)
    (tree / "wp-config.php").touch()
    for name in ("uploads", "mu-plugins"):
        (tree / "wp-content" / name).mkdir(exist_ok=True)
    uploads = tree / "wp-content/uploads"
    database.mkdir()
    shutil.chown(database, "mysql", "mysql")
    must("mariadb-install-db", "--user=mysql", f"--datadir={database}", "--skip-test-db", "--innodb-log-file-size=16M")
    with started_database(database, home) as socket:
        must(
            "mariadb", f"--socket={socket}", "--execute",
            f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4; GRANT ALL ON {DATABASE}.* TO "
            f"'{DATABASE_USER}'@'localhost' IDENTIFIED BY '{DATABASE_PASSWORD}'",
        )  # fmt: skip
        config = wp_config("http://lab.example")
        (tree / "wp-config.php").write_text(config.replace("'localhost'", f"'localhost:{socket}'"))
        made = must("php", "-d", "memory_limit=512M", str(INSTALL), str(tree), *SETTINGS)
    (tree / "wp-config.php").write_text("<?php\n")
    must("chown", "-R", "www-data:www-data", str(uploads))
    site = json.loads(made.splitlines()[-1])
    (home / "site.json").write_text(json.dumps(site))


@contextlib.contextmanager
def started_database(database: Path, home: Path) -> Iterator[str]:
    """A MariaDB on this directory, reached through the socket that is yielded; stopped at the end."""
    socket = f"/tmp/tocsin-lab-{os.getpid()}.sock"  # noqa: S108 - a socket's path has 107 bytes at most
    options = ("--no-defaults", "--user=mysql", f"--datadir={database}", f"--socket={socket}", "--skip-networking")
    fast = ("--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin")
    with (home / "make.log").open("w") as log:
        process = subprocess.Popen(
            ["mariadbd", *options, f"--pid-file={database}/make.pid", *fast], stdout=log, stderr=log
        )
        try:
            end_s = time.monotonic() + MADE_WITHIN_S
            while not Path(socket).exists():
                if process.poll() is not None or time.monotonic() > end_s:
                    raise RuntimeError(
                        f"the template's database did not start: {(home / 'make.log').read_text()[-900:]}"
                    )
                time.sleep(0.1)
            yield socket
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def must(*words: str) -> str:
    """Run a program that has to work; its output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=MADE_WITHIN_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)[:200]}: {(done.stderr or done.stdout).strip()[-900:]}")
    return done.stdout
