"""The one name of a service, whatever its program, unit or process is called."""

from __future__ import annotations

import re
from functools import lru_cache

_SAME = {
    "httpd": "apache2",
    "apache": "apache2",
    "apachectl": "apache2",
    "apache2ctl": "apache2",
    "mysqld": "mysql",
    "mysqld_safe": "mysql",
    "mariadbd": "mariadb",
    "mariadbd-safe": "mariadb",
    "postgres": "postgresql",
    "postmaster": "postgresql",
}
_FPM = re.compile(r"(?:[a-z0-9]{1,20}-)?php[0-9.]{0,5}-(?:php-)?fpm|php-fpm[0-9.]{0,5}").fullmatch
_VERSIONED = re.compile(r"(postgresql|mysql|mariadb|httpd|apache2)-?[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}").fullmatch
_CONTAINER = re.compile(r"(?:(docker|libpod|cri-containerd|crio)-)?([0-9a-f]{12})[0-9a-f]{52}(?:\.scope)?").fullmatch
_LONGEST = 255


@lru_cache(maxsize=4096)
def service_name(name: str) -> str:
    """`apache2`, `nginx`, `mysql`, `mariadb`, `php-fpm`, `postgresql`, ... of a program's path, a process's name or
    title, or a unit; of other kinds of units (`.slice`, `.scope`), and of what is not known, the name as it stands.

    Without path, `.service`, instance (`postgresql@14-main`), version (`php8.2-fpm`, `php-fpm7.4`) and snap
    (`snap.nextcloud.mysql`). A container is called as `docker ps` shows it, by 12 characters (`docker-44c652b8bf6d`).
    """
    name = name[:_LONGEST].strip().rsplit("/", 1)[-1].removesuffix(".service")
    container = _CONTAINER(name)
    if container:
        return f"{container[1] or 'container'}-{container[2]}"
    name = name.partition("@")[0] or name
    if name.startswith("snap."):
        name = name.rpartition(".")[2] or name
    title = name.partition(":")[0]
    if title in {"php-fpm", "postgres", "nginx"}:
        name = title
    if _FPM(name):
        return "php-fpm"
    versioned = _VERSIONED(name)
    if versioned:
        name = versioned[1]
    return _SAME.get(name, name)
