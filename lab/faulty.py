"""The draws of the scenarios in which no request is to blame, and of the day on which nothing goes wrong."""

from __future__ import annotations

import draws
from draft import Draft

JOBS = (
    ("restic", "backup /srv --quiet"), ("borg", "create ::nightly /var/www"), ("mysqldump", "--all-databases"),
    ("tar", "cJf /var/backups/www.tar.xz /var/www"), ("wp-cli", "media regenerate --yes"), ("rsnapshot", "daily"),
    ("clamscan", "-r /var/www"), ("convert-images", "/var/www/uploads"), ("php-report", "--month"),
    ("node", "build.js"), ("aide", "--check"), ("updatedb", ""), ("duplicity", "/srv file:///backup"),
    ("importer", "products.csv"),
)  # fmt: skip
# Options that an upgrade, or the way from MySQL to MariaDB 10.11, leaves behind and that keep it from starting.
MY_CNF = (
    "mysqlx_port = 33060", "authentication_policy = mysql_native_password", "collation_server = utf8mb4_0900_ai_ci",
    "innodb_redo_log_capacity = 64M", "sql_mode = NO_AUTO_CREATE_USERS", "binlog_format = ROWS",
    "tx_isolation = READ-COMMITTED",
)  # fmt: skip
WEB_CONF = {
    "apache": (
        "Order allow,deny on",
        "LoadModule php7_module modules/libphp7.so",
        "SSLCertificateFile /etc/none.pem",
        "Incldue x",
    ),
    "nginx": (
        "ssl_certificate /etc/letsencrypt/live/none/fullchain.pem;",
        "gzip_vray on;",
        "server_names_hash_bucket_size huge;",
    ),
}


def local_job(draft: Draft) -> None:
    """A job beside the site takes the memory.

    Seldom in one process, which the kernel then kills and nobody notices; mostly in so many that the database is the
    largest of all and dies for them.
    """
    rng, memory = draft.rng, draft.stack.memory_bytes
    name, args = rng.choice(JOBS)
    draft.process = name
    whole = int(memory * rng.uniform(1.1, 1.6))
    each = rng.randint(45, 70) << 20
    draft.notes["fault"] = told = {
        "name": name, "args": args, "bytes": whole, "seconds": rng.randint(10, 30),
        "hold_s": draft.attack_s, "from_cron": rng.random() < 0.7, "again": rng.random() < 0.5,
        "processes": 1 if rng.random() < 0.15 else whole // each + 1, "busy": rng.random() < 0.6,
    }  # fmt: skip
    draft.fault(draft.before_s, "local-job", **told)


def disk_full(draft: Draft) -> None:
    """The database's file system fills, and somebody restarts the database."""
    rng = draft.rng
    draft.stack.small_disk = ("mysql", rng.randint(8, 40) << 20)
    path = rng.choice(("backup-full.sql", "ibtmp-export.csv", "core.2231", "dump/site.sql", "mysql-bin.000412"))
    seconds = rng.randint(4, 12)
    told = {"where": "mysql", "path": f"/var/lib/mysql/{path}", "seconds": seconds}
    draft.notes["fault"] = told
    draft.fault(draft.before_s, "fill-disk", **told)
    draft.fault(draft.before_s + seconds + rng.randint(3, 15), "restart-db")


def crash_loop(draft: Draft) -> None:
    """A program dies of itself, over and over, or does not come back."""
    rng, stack = draft.rng, draft.stack
    how = rng.choice(("php-segfault", "bad-my-cnf", "bad-web-conf", "bad-extension", "bad-preload"))
    told: dict[str, object] = {"how": how}
    if how == "php-segfault":
        told["every"] = rng.choice((1, 1, 2))
    if how == "bad-my-cnf":
        told["option"] = rng.choice(MY_CNF)
    if how == "bad-web-conf":
        told["line"] = rng.choice(WEB_CONF[stack.web])
    draft.notes["fault"] = told
    draft.fault(draft.before_s, "crash", **told)


def quiet(draft: Draft) -> None:
    """An ordinary day with its harmless noise."""
    rng, whole = draft.rng, draft.seconds
    draft.fault(rng.randint(20, whole - 20), "reload")
    draft.fault(rng.randint(5, whole - 10), "cron", command="cd / && run-parts --report /etc/cron.hourly")
    draft.fault(rng.randint(10, whole - 20), "slow-query", seconds=round(rng.uniform(1.5, 4), 1))
    if rng.random() < 0.5:
        draft.fault(rng.randint(5, whole - 10), "php-error")
    if rng.random() < 0.5:
        bot = "Mozilla/5.0 (compatible; SiteCensus/2.4; +https://sitecensus.example/bot)"
        who = draft.some(draft.nets, 1)
        draft.phase("crawler", rng.randint(10, whole // 2), whole, who, agent=bot, per_s=rng.uniform(0.3, 0.6))
    if rng.random() < 0.5:  # a newsletter goes out: more readers for a while, and all of them are served
        start_s, who = rng.randint(40, whole - 60), draft.some(draft.nets, 60)
        draft.phase(
            "surge", start_s, start_s + 40, who, per_s=0.3, pages=1.5, think_s=[3, 12], landing=draft.stack.wp_path
        )
    paths = rng.sample(draws.PROBES, 8)
    draft.phase(
        "probes", rng.randint(5, whole // 2), whole, draft.some(draft.nets, 1), agent="Go-http-client/1.1", paths=paths
    )
