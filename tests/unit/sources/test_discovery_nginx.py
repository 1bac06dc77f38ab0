"""nginx: configurations as Debian, nginx.org and administrators write them, and what must be read out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_tree import NOW_TS, plant

from tocsin.formats import by_name
from tocsin.sources.discovery import Discovery, discover

NGINX_CONF = r"""user www-data;
worker_processes auto;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
include /etc/nginx/modules-enabled/*.conf;

events {
	worker_connections 768;
	# multi_accept on;
}

http {
	sendfile on;
	include /etc/nginx/mime.types;
	default_type application/octet-stream;
	ssl_protocols TLSv1.2 TLSv1.3; # Dropping SSLv3 (POODLE), TLS 1.0, 1.1

	map $status $loggable { ~^[23]  0; default 1; }
	log_format timed '$remote_addr - $remote_user [$time_local] '
		'"$request" $status $body_bytes_sent '
		'"$http_referer" "$http_user_agent" $request_time';
	log_format json_lines escape=json '{"time":"$time_iso8601","ip":"$remote_addr",'
		'"request":"$request","status":$status}';

	access_log /var/log/nginx/access.log;
	gzip on;
	include /etc/nginx/conf.d/*.conf;
	include sites-enabled/*;
}

stream {
	log_format basic '$remote_addr [$time_local] $protocol';
	access_log /var/log/nginx/stream.log basic;
}
"""
SITES = r"""server {
	listen 80 default_server;
	server_name _;
	location / { return 301 https://$host$request_uri; }
}
server {
	listen 443 ssl;
	server_name ~^www\d+\.example$ .example.org www.example.org;
	access_log /var/log/nginx/example.access.log timed buffer=32k flush=5s;
	error_log /var/log/nginx/example.error.log warn;
	location ~ "^/a{2,3}/(?<rest>.*)$" {
		access_log off;
	}
	location /api/ {
		access_log /var/log/nginx/api.json json_lines if=$loggable;
		proxy_pass http://127.0.0.1:8080;
		content_by_lua_block {
			-- don't read this: access_log /no.log;
			local t = { a = "}{", b = 'x' }
			t = { }
		}
	}
	if ($request_method = POST) { return 405; }
}
"""


def nginx(root: Path, conf: str, **files: str) -> Discovery:
    return discover(plant(root, {"/etc/nginx/nginx.conf": conf, **files}), NOW_TS)


def test_a_debian_machine_with_sites(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/etc/nginx/nginx.conf": NGINX_CONF,
            "/etc/nginx/mime.types": "types { text/html html; }\n",
            "/etc/nginx/sites-available/sites": SITES,
            "/var/log/nginx/access.log": "x",
        },
        {"/etc/nginx/sites-enabled/sites": "/etc/nginx/sites-available/sites"},
    )
    discovery = discover(tmp_path, NOW_TS)
    assert discovery.unreadable == ()
    found = [(log.path, log.kind, log.vhost, log.found_in.rpartition("/")[2]) for log in discovery.logs]
    assert found == [
        ("/var/log/nginx/error.log", "error", None, "nginx.conf:4"),
        ("/var/log/nginx/access.log", "access", None, "nginx.conf:25"),
        ("/var/log/nginx/example.access.log", "access", "example.org", "sites:9"),
        ("/var/log/nginx/example.error.log", "error", "example.org", "sites:10"),
        ("/var/log/nginx/api.json", "access", "example.org", "sites:15"),
    ]
    logs = {log.path: log for log in discovery.logs}
    assert logs["/var/log/nginx/access.log"].format == "combined"
    timed = logs["/var/log/nginx/example.access.log"]
    assert timed.format == (
        'nginx $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
        '"$http_referer" "$http_user_agent" $request_time'
    )
    assert "blocks of 32k" in timed.note
    api = logs["/var/log/nginx/api.json"]
    assert api.format == (
        'nginx escape=json {"time":"$time_iso8601","ip":"$remote_addr","request":"$request","status":$status}'
    )
    assert "$loggable" in api.note


@pytest.mark.parametrize(
    ("conf", "paths"),
    [
        ("http { server { listen 80; } }", ["/var/log/nginx/access.log"]),
        ("http { access_log off; server { listen 80; } }", []),
        ("http { server { access_log /a.log; } }", ["/a.log"]),
        ("http { server { access_log /a.log; } server { } }", ["/a.log", "/var/log/nginx/access.log"]),
        ("http { server { location / { access_log /l.log; } } }", ["/l.log", "/var/log/nginx/access.log"]),
        ("http { access_log /h.log; server { } }", ["/h.log"]),
        ("stream { server { listen 53 udp; } }", []),
        ("events { }", []),
    ],
)
def test_the_default_log_is_written_where_no_level_names_one(tmp_path: Path, conf: str, paths: list[str]) -> None:
    logs = [log for log in nginx(tmp_path, conf).logs if log.kind == "access"]
    assert [log.path for log in logs] == paths
    assert all(log.format == "combined" for log in logs)


def test_variables_in_a_path_become_a_glob_that_leaves_other_logs_alone(tmp_path: Path) -> None:
    conf = "http { access_log /var/log/nginx/${host}.log; access_log /srv/$server_name/$host/a.log; }"
    files = {f"/var/log/nginx/{name}": "12345" for name in ("a.example.log", "b.example.log", "error.log", "x.log.1")}
    logs = {log.path: log for log in nginx(tmp_path, conf, **files).logs}
    assert sorted(logs) == ["/srv/*/*/a.log", "/var/log/nginx/*.log", "/var/log/nginx/error.log"]
    by_host = logs["/var/log/nginx/*.log"]
    assert (by_host.files, by_host.size_bytes, by_host.exclude) == (2, 10, ("/var/log/nginx/error.log",))


@pytest.mark.parametrize(
    ("conf", "path", "reason"),
    [
        ("access_log syslog:server=192.0.2.9:514,tag=nginx main;", "syslog:server=192.0.2.9:514,tag=nginx", "syslog"),
        ("error_log stderr;", "stderr", "stderr"),
        ("access_log /a.log.gz combined gzip=5;", "/a.log.gz", "compresses"),
        ("access_log /dev/stdout;", "/dev/stdout", "no file"),
        ("include gone.conf;", "/etc/nginx/gone.conf", "No such file"),
        ("include nginx.conf;", "/etc/nginx/nginx.conf", "includes itself"),
        ("include /etc/nginx/loop;", "/etc/nginx/loop", "symbolic links"),
    ],
)
def test_what_cannot_be_read_is_said_with_a_remedy(tmp_path: Path, conf: str, path: str, reason: str) -> None:
    plant(tmp_path, {}, {"/etc/nginx/loop": "loop"})
    (item,) = nginx(tmp_path, f"http {{\n{conf}\n}}\n").unreadable
    assert (item.path, item.found_in) == (path, "/etc/nginx/nginx.conf:2")
    assert reason in item.reason
    assert item.remedy


def test_a_container_whose_log_is_a_link_to_its_output(tmp_path: Path) -> None:
    plant(tmp_path, {}, {"/var/log/nginx/access.log": "/dev/stdout", "/var/log/nginx/error.log": "/dev/stderr"})
    discovery = nginx(tmp_path, "http { access_log /var/log/nginx/access.log; }")
    assert [item.path for item in discovery.unreadable] == ["/var/log/nginx/access.log", "/var/log/nginx/error.log"]
    assert "/dev/stdout" in discovery.unreadable[0].reason


def test_a_relative_path_stands_under_the_prefix_where_the_log_is(tmp_path: Path) -> None:
    conf = "http { access_log logs/a.log; access_log logs/b.log; }"
    logs = nginx(tmp_path, conf, **{"/etc/nginx/logs/b.log": ""}).logs
    assert [log.path for log in logs][:2] == ["/usr/share/nginx/logs/a.log", "/etc/nginx/logs/b.log"]


@pytest.mark.parametrize(
    "conf",
    [
        "http { access_log /a.log",
        "} } http { access_log /a.log; } }",
        "http { access_log '/a.log' ; log_format broken 'never closed; }",
        'http { access_log "/a.log"; \\',
        "\ufeffuser x; http { access_log /a.log; x_by_lua_block { {{{ 'don' } }",
        "http{access_log /a.log;}#end",
    ],
)
def test_a_broken_configuration_yields_what_it_can(tmp_path: Path, conf: str) -> None:
    assert "/a.log" in {log.path for log in nginx(tmp_path, conf).logs}


def test_a_format_that_nobody_defined_is_sniffed(tmp_path: Path) -> None:
    (log,) = [log for log in nginx(tmp_path, "http { access_log /a.log main; }").logs if log.kind == "access"]
    assert (log.format, log.note) == ("", 'no log_format is named "main"')


def test_the_formats_that_are_found_can_be_read(tmp_path: Path) -> None:
    conf = f"{NGINX_CONF}\nhttp {{ {SITES} }}"
    specs = {log.format for log in nginx(tmp_path, conf).logs if log.kind == "access"}
    assert len(specs) == 3
    for spec in specs:
        assert by_name(spec).kind == "access"
