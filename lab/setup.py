"""Installs what the lab is made of: Debian packages, and nothing of them started on the host. Root; half a minute.

python lab/setup.py
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = (
    "apache2", "libapache2-mod-php8.2", "nginx", "php8.2-fpm", "php8.2-cli", "php8.2-mysql", "php8.2-xml", "php8.2-gd",
    "php8.2-mbstring", "php8.2-curl", "mariadb-server", "wordpress", "wordpress-theme-twentytwentythree",
    "gcc", "libc6-dev", "procps", "iproute2", "util-linux", "e2fsprogs", "tzdata", "xz-utils",
)  # fmt: skip
POLICY = Path("/usr/sbin/policy-rc.d")
QUIET_APT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def missing() -> list[str]:
    """Packages of ours that are not installed."""
    absent = []
    for package in PACKAGES:
        words = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
        if subprocess.run(words, capture_output=True, text=True, check=False).stdout != "installed":
            absent.append(package)
    return absent


@contextlib.contextmanager
def nothing_starts() -> Iterator[None]:
    """Debian's own way of saying that no service may be started: a policy-rc.d that answers 101."""
    mine = not POLICY.exists()
    if mine:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if mine:
            POLICY.unlink(missing_ok=True)


def main() -> int:
    """Install what is missing."""
    absent = missing()
    if not absent:
        return 0
    if os.getuid() != 0:
        print(f"lab: please run: sudo apt-get install --no-install-recommends {' '.join(absent)}")
        return 1
    print(f"lab: installing Debian packages, their services kept from starting: {' '.join(absent)}", flush=True)
    with nothing_starts():
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *absent]):
            done = subprocess.run(["apt-get", *words], env=QUIET_APT, stdout=subprocess.DEVNULL, check=False)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
