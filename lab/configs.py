"""Writes a server's configuration: Debian's own files, copied, and in them only what the draw decides."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from stack import Stack
from wordpress import wp_config

COMBINED = r"%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\""
NGINX_COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)
STOCK = ("apache2", "mysql", "nginx", "php")


def write_all(stack: Stack, etc: Path, address: str, hostname: str) -> None:
    """Everything below `etc`, which will stand at /etc's directories of the same names."""
    for name in STOCK:
        shutil.copytree(f"/etc/{name}", etc / name, symlinks=True)
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{address} {' '.join([stack.vhost, *stack.aliases, hostname])}\n")
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (etc / "hostname").write_text(f"{hostname}\n")
    home = f"http://{stack.vhost}{stack.wp_path}".rstrip("/")
    (etc / "wp-config.php").write_text(wp_config(home))
    write_mariadb(stack, etc / "mysql")
    if stack.web == "apache":
        write_apache(stack, etc / "apache2", address)
    else:
        write_nginx(stack, etc / "nginx", address)
        write_fpm(stack, etc / "php/8.2/fpm/pool.d/www.conf")


def write_mariadb(stack: Stack, mysql: Path) -> None:
    """A buffer pool as an owner of so small a machine would set it, an error log in a file, the slow log if drawn."""
    lines = [
        "[mysqld]",
        "log_error = /var/log/mysql/error.log",
        f"innodb_buffer_pool_size = {max(32, stack.memory_bytes // 5 // 2**20)}M",
        "innodb_log_file_size = 16M",
        "innodb_flush_log_at_trx_commit = 2",
        "open_files_limit = 4096",
        "table_open_cache = 400",
        f"max_connections = {stack.workers + 30}",
    ]
    if stack.slow_log_s is not None:
        lines += ["slow_query_log = 1", "slow_query_log_file = /var/log/mysql/mariadb-slow.log"]
        lines += [f"long_query_time = {stack.slow_log_s}"]
    (mysql / "mariadb.conf.d/90-local.cnf").write_text("\n".join(lines) + "\n")


def write_apache(stack: Stack, apache: Path, address: str) -> None:
    """One virtual host; the log as drawn: its own, or Debian's other_vhosts_access.log where the host names none."""
    (apache / "mods-enabled/rewrite.load").symlink_to("../mods-available/rewrite.load")
    if not stack.reqtimeout:
        for each in ("reqtimeout.conf", "reqtimeout.load"):
            (apache / "mods-enabled" / each).unlink()
    spare = min(5, stack.workers)
    (apache / "mods-available/mpm_prefork.conf").write_text(
        f"StartServers {spare}\nMinSpareServers {spare}\nMaxSpareServers {2 * spare}\n"
        f"ServerLimit {stack.workers}\nMaxRequestWorkers {stack.workers}\nMaxConnectionsPerChild 0\n"
    )
    main = apache / "apache2.conf"
    text = re.sub(
        r"^KeepAliveTimeout .*$", f"KeepAliveTimeout {max(1, stack.keep_alive_s)}", main.read_text(), flags=re.MULTILINE
    )
    text = re.sub(r"^KeepAlive .*$", f"KeepAlive {'On' if stack.keep_alive_s else 'Off'}", text, flags=re.MULTILINE)
    main.write_text(text + f'\nServerName {address}\nLogFormat "{COMBINED} %D" timed\n')
    log = {"combined": "combined", "timed": "timed"}.get(stack.access_format)
    custom = f"\tCustomLog ${{APACHE_LOG_DIR}}/access.log {log}\n" if log else ""
    base = stack.wp_path
    aliases = f"\tServerAlias {' '.join(stack.aliases)}\n" if stack.aliases else ""
    (apache / "sites-available/000-default.conf").write_text(
        f"<VirtualHost *:80>\n\tServerName {stack.vhost}\n{aliases}\tDocumentRoot /var/www/html\n"
        f"\tErrorLog ${{APACHE_LOG_DIR}}/error.log\n{custom}"
        f"\t<Directory /var/www/html{base}>\n\t\tRewriteEngine On\n\t\tRewriteBase {base}\n"
        "\t\tRewriteRule ^index\\.php$ - [L]\n"
        "\t\tRewriteCond %{REQUEST_FILENAME} !-f\n\t\tRewriteCond %{REQUEST_FILENAME} !-d\n"
        f"\t\tRewriteRule . {base}index.php [L]\n\t</Directory>\n</VirtualHost>\n"
    )


def write_nginx(stack: Stack, nginx: Path, address: str) -> None:
    """One server block in sites-enabled/default."""
    formats = {"vhost_combined": f"$host:$server_port {NGINX_COMBINED}", "timed": f"{NGINX_COMBINED} $request_time"}
    (nginx / "conf.d/formats.conf").write_text(
        "".join(f"log_format {name} '{text}';\n" for name, text in formats.items())
    )
    main = nginx / "nginx.conf"
    main.write_text(re.sub(r"^\s*access_log .*$", "", main.read_text(), flags=re.MULTILINE))
    site = nginx / "sites-enabled/default"
    site.unlink()
    base = stack.wp_path
    site.write_text(
        f"server {{\n\tlisten 80 default_server;\n\tserver_name {' '.join([stack.vhost, *stack.aliases, address])};\n"
        f"\troot /var/www/html;\n\tindex index.php index.html;\n\tkeepalive_timeout {stack.keep_alive_s};\n"
        f"\taccess_log /var/log/nginx/access.log {stack.access_format};\n"
        f"\tlocation {base} {{\n\t\ttry_files $uri $uri/ {base}index.php?$args;\n\t}}\n"
        "\tlocation ~ \\.php$ {\n\t\tinclude snippets/fastcgi-php.conf;\n"
        "\t\tfastcgi_pass unix:/run/php/php8.2-fpm.sock;\n\t}\n}\n"
    )


def write_fpm(stack: Stack, pool: Path) -> None:
    """The pool's children: as many as drawn, a fifth of them kept ready."""
    spare = max(1, stack.workers // 5)
    drawn = {
        "pm.max_children": stack.workers,
        "pm.start_servers": spare,
        "pm.min_spare_servers": spare,
        "pm.max_spare_servers": max(2 * spare, spare + 1),
    }
    text = pool.read_text()
    for key, value in drawn.items():
        text = re.sub(rf"^{re.escape(key)} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    pool.write_text(text)
