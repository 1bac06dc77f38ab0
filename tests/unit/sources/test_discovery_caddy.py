"""Caddy: which sites log to files."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_tree import NOW_TS, plant

from tocsin.sources.discovery import Discovery, discover

CADDYFILE = """{
	email admin@example.org
	log {
		output file /var/log/caddy/caddy.log
	}
}

(logged) {
	log {
		output file /var/log/caddy/snippet.log
	}
}

import sites/*.caddy

example.org, www.example.org {
	root * /srv/{host}
	log {
		output file /var/log/caddy/example.log {
			roll_size 10MiB
			roll_keep 5
		}
		format json
	}
	reverse_proxy localhost:8080 {
		header_up Host {upstream_hostport}
	}
}

https://console.example.org:8443 {
	log access {
		output file "{$LOG_DIR:/srv/logs}/console.log"
		format console # for people
	}
}

:80 {
	import logged
}

quiet.example.org {
	log
}
gone.example.org {
	log {
		output discard
	}
}
"""


def caddy(root: Path, text: str, **files: str) -> Discovery:
    return discover(plant(root, {"/etc/caddy/Caddyfile": text, **files}), NOW_TS)


def test_a_caddyfile_with_sites_snippets_and_imports(tmp_path: Path) -> None:
    site = "blog.example.org {\n\tlog {\n\t\toutput file /var/log/caddy/blog.log\n\t}\n}\n"
    discovery = caddy(tmp_path, CADDYFILE, **{"/etc/caddy/sites/blog.caddy": site, "/var/log/caddy/stray.log": "{}"})
    found = {log.path: (log.format, log.vhost, log.found_in) for log in discovery.logs}
    assert found == {
        "/var/log/caddy/caddy.log": ("caddy-json", None, "/etc/caddy/Caddyfile:3"),
        "/var/log/caddy/blog.log": ("caddy-json", "blog.example.org", "/etc/caddy/sites/blog.caddy:2"),
        "/var/log/caddy/example.log": ("caddy-json", "example.org", "/etc/caddy/Caddyfile:18"),
        "/srv/logs/console.log": ("", "console.example.org", "/etc/caddy/Caddyfile:31"),
        "/var/log/caddy/snippet.log": ("caddy-json", None, "/etc/caddy/Caddyfile:9"),
        "/var/log/caddy/stray.log": ("", None, "usual place"),
    }
    (item,) = discovery.unreadable
    assert (item.path, item.found_in) == ("stderr", "/etc/caddy/Caddyfile:42")


@pytest.mark.parametrize(
    "text",
    [
        "localhost\n\nlog {\n output file /a.log\n}\n",
        "localhost {\n log {\n output file `/a.log`\n",
        "one.example,\ntwo.example {\nlog {\noutput file /a.log\n}\n}\n",
    ],
)
def test_other_ways_to_write_it(tmp_path: Path, text: str) -> None:
    assert [log.path for log in caddy(tmp_path, text).logs] == ["/a.log"]


def test_an_import_of_itself_is_reported(tmp_path: Path) -> None:
    (item,) = caddy(tmp_path, "import Caddyfile\nimport gone\n").unreadable[:1]
    assert item.reason == "includes itself"
