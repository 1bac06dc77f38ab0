"""Apache: whole configurations as Debian, RHEL and administrators write them, and what must be read out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_tree import NOW_TS, plant

from tocsin.formats import by_name
from tocsin.sources.discovery import Discovery, FoundLog, discover
from tocsin.sources.piped import piped_target

COMBINED = '%h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"'
VHOST_COMBINED = f"%v:%p {COMBINED}"

APACHE2_CONF = r"""
# The directory where shm and other runtime files will be stored.
#ServerRoot "/etc/apache2"
DefaultRuntimeDir ${APACHE_RUN_DIR}
PidFile ${APACHE_PID_FILE}
Timeout 300
User ${APACHE_RUN_USER}
HostnameLookups Off
ErrorLog ${APACHE_LOG_DIR}/error.log
LogLevel warn
IncludeOptional mods-enabled/*.load
IncludeOptional mods-enabled/*.conf
Include ports.conf
<Directory />
	Options FollowSymLinks
	AllowOverride None
	Require all denied
</Directory>
<FilesMatch "^\.ht">
	Require all denied
</FilesMatch>
LogFormat "%v:%p %h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"" vhost_combined
LogFormat "%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"" combined
LogFormat "%h %l %u %t \"%r\" %>s %O" common
LogFormat "%{Referer}i -> %U" referer
IncludeOptional conf-enabled/*.conf
IncludeOptional sites-enabled/*.conf
"""
ENVVARS = r"""# envvars - default environment variables for apache2ctl
unset HOME
if [ "${APACHE_CONFDIR##/etc/apache2-}" != "${APACHE_CONFDIR}" ] ; then
	SUFFIX="-${APACHE_CONFDIR##/etc/apache2-}"
else
	SUFFIX=
fi
: ${APACHE_CONFDIR:=/etc/apache2}
export APACHE_RUN_USER=www-data
export APACHE_PID_FILE=/var/run/apache2$SUFFIX/apache2.pid
export APACHE_RUN_DIR=/var/run/apache2$SUFFIX
# Only /var/log/apache2 is handled by /etc/logrotate.d/apache2.
export APACHE_LOG_DIR=/var/log/apache2$SUFFIX
export LANG=C
"""
DEFAULT_SITE = """<VirtualHost *:80>
	# ServerName is not set: this host matches anyway
	ServerAdmin webmaster@localhost
	DocumentRoot /var/www/html
	ErrorLog ${APACHE_LOG_DIR}/error.log
	CustomLog ${APACHE_LOG_DIR}/access.log combined
</VirtualHost>
"""
SHOP_SITE = """<IfModule mod_ssl.c>
<VirtualHost _default_:443>
	DocumentRoot "/srv/shop"
	CustomLog "${APACHE_LOG_DIR}/shop access.log" \\
		combined env=!dontlog
	ServerName https://shop.example.org:443
	SSLEngine on
</VirtualHost>
</IfModule>
"""
OTHER_VHOSTS = "CustomLog ${APACHE_LOG_DIR}/other_vhosts_access.log vhost_combined\n"


def debian(root: Path, **more: str) -> Path:
    return plant(
        root,
        {
            "/etc/apache2/apache2.conf": APACHE2_CONF,
            "/etc/apache2/envvars": ENVVARS,
            "/etc/apache2/ports.conf": "Listen 80\n<IfModule ssl_module>\n\tListen 443\n</IfModule>\n",
            "/etc/apache2/sites-available/000-default.conf": DEFAULT_SITE,
            "/etc/apache2/sites-available/shop.conf": SHOP_SITE,
            "/etc/apache2/sites-available/off.conf": "CustomLog /var/log/apache2/off.log combined\n",
            "/etc/apache2/conf-available/other-vhosts-access-log.conf": OTHER_VHOSTS,
            "/var/log/apache2/access.log": "x" * 120,
            "/var/log/apache2/error.log": "",
            **more,
        },
        {
            "/etc/apache2/sites-enabled/000-default.conf": "../sites-available/000-default.conf",
            "/etc/apache2/sites-enabled/shop.conf": "/etc/apache2/sites-available/shop.conf",
            "/etc/apache2/conf-enabled/other-vhosts-access-log.conf": "../conf-available/other-vhosts-access-log.conf",
        },
    )


def by_path(discovery: Discovery) -> dict[str, FoundLog]:
    assert len({log.path for log in discovery.logs}) == len(discovery.logs)
    return {log.path: log for log in discovery.logs}


def test_a_debian_machine_with_two_sites(tmp_path: Path) -> None:
    discovery = discover(debian(tmp_path), NOW_TS)
    logs = by_path(discovery)
    assert list(logs) == [
        "/var/log/apache2/error.log",
        "/var/log/apache2/other_vhosts_access.log",
        "/var/log/apache2/access.log",
        "/var/log/apache2/shop access.log",
    ]
    access = logs["/var/log/apache2/access.log"]
    assert access == FoundLog(
        path="/var/log/apache2/access.log",
        kind="access",
        format=f"apache {COMBINED}",
        vhost=None,
        found_in="/etc/apache2/sites-enabled/000-default.conf:6",
        server="apache",
        exists=True,
        readable=True,
        files=1,
        size_bytes=120,
        age_s=3600.0,
    )
    shop = logs["/var/log/apache2/shop access.log"]
    assert (shop.vhost, shop.exists, shop.size_bytes, shop.age_s) == ("shop.example.org", False, None, None)
    assert shop.found_in == "/etc/apache2/sites-enabled/shop.conf:4"
    assert "env=!dontlog" in shop.note
    assert logs["/var/log/apache2/other_vhosts_access.log"].format == f"apache {VHOST_COMBINED}"
    assert logs["/var/log/apache2/error.log"].kind == "error"
    assert discovery.unreadable == ()
    assert "/etc/apache2/ports.conf" in discovery.configs


def test_a_rhel_machine_whose_log_directory_is_a_link(tmp_path: Path) -> None:
    conf = r"""ServerRoot "/etc/httpd"
Include conf.modules.d/*.conf
ErrorLog "logs/error_log"
<IfModule log_config_module>
    LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"" combined
    <IfModule logio_module>
      LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\" %I %O" combinedio
    </IfModule>
    CustomLog "logs/access_log" combined
</IfModule>
IncludeOptional conf.d/*.conf
"""
    ssl = r"""<VirtualHost _default_:443>
ErrorLog logs/ssl_error_log
TransferLog logs/ssl_access_log
CustomLog logs/ssl_request_log \
          "%t %h %{SSL_PROTOCOL}x %{SSL_CIPHER}x \"%r\" %b"
</VirtualHost>
"""
    plant(
        tmp_path,
        {
            "/etc/httpd/conf/httpd.conf": conf,
            "/etc/httpd/conf.d/ssl.conf": ssl,
            "/var/log/httpd/access_log": "line\n",
            "/var/log/httpd/old_access_log": "line\n",
        },
        {"/etc/httpd/logs": "../../var/log/httpd"},
    )
    logs = by_path(discover(tmp_path, NOW_TS))
    assert logs["/var/log/httpd/access_log"].format.startswith("apache %h %l %u %t")
    assert logs["/var/log/httpd/access_log"].readable
    assert logs["/var/log/httpd/ssl_access_log"].format == 'apache %h %l %u %t "%r" %>s %b'
    assert logs["/var/log/httpd/ssl_request_log"].format == 'apache %t %h %{SSL_PROTOCOL}x %{SSL_CIPHER}x "%r" %b'
    assert logs["/var/log/httpd/old_access_log"].found_in == "usual place"
    assert len(logs) == 6


def apache(root: Path, conf: str, **files: str) -> Discovery:
    return discover(plant(root, {"/etc/apache2/apache2.conf": conf, **files}), NOW_TS)


def test_a_log_that_several_sites_share_belongs_to_none_of_them(tmp_path: Path) -> None:
    conf = "".join(
        f"<VirtualHost *:80>\nServerName {name}.example\nCustomLog /var/log/a.log common\n</VirtualHost>\n"
        for name in ("one", "two")
    )
    (log,) = apache(tmp_path, conf).logs
    assert (log.vhost, log.format) == (None, "common")


def test_two_formats_in_one_file_are_sniffed_and_said(tmp_path: Path) -> None:
    (log,) = apache(tmp_path, 'CustomLog /l.log common\nCustomLog /l.log "%h %r"\n').logs
    assert log.format == ""
    assert "apache2.conf:1 and /etc/apache2/apache2.conf:2" in log.note


def test_a_name_may_be_given_to_a_format_after_its_use_and_for_one_site_alone(tmp_path: Path) -> None:
    conf = """CustomLog /main.log mine
<VirtualHost *:80>
LogFormat "%a site" mine
CustomLog /site.log mine
CustomLog /unknown.log nosuch
</VirtualHost>
LogFormat "%h main" mine
"""
    logs = by_path(apache(tmp_path, conf))
    assert logs["/main.log"].format == "apache %h main"
    assert logs["/site.log"].format == "apache %a site"
    assert logs["/unknown.log"].format == ""
    assert "nosuch" in logs["/unknown.log"].note


def test_macros_are_expanded(tmp_path: Path) -> None:
    conf = """<Macro VHost $name $n>
<VirtualHost *:80>
ServerName $name
CustomLog /var/log/$n-$name.log common
</VirtualHost>
</Macro>
Use VHost a.example 1
Use vhost b.example 2
UndefMacro VHost
"""
    logs = by_path(apache(tmp_path, conf))
    assert {path: log.vhost for path, log in logs.items()} == {
        "/var/log/1-a.example.log": "a.example",
        "/var/log/2-b.example.log": "b.example",
    }


@pytest.mark.parametrize(
    ("conf", "path", "reason"),
    [
        ('CustomLog "|/usr/bin/logger -t web" common', "|/usr/bin/logger -t web", "piped to logger"),
        ("CustomLog ${NOWHERE}/a.log common", "${NOWHERE}/a.log", "neither by Define nor in envvars"),
        ("ErrorLog syslog:local1", "syslog:local1", "goes to syslog"),
        ("Include gone.conf", "/etc/apache2/gone.conf", "No such file"),
        ("Use Absent x", "absent", "nowhere defined"),
        ("Include apache2.conf", "/etc/apache2/apache2.conf", "includes itself"),
        ("CustomLog /dev/stdout common", "/dev/stdout", "no file"),
        ("CustomLog /etc common", "/etc", "no regular file"),
        ("<Macro M>\nUse M\n</Macro>\nUse M", "m", "uses itself"),
    ],
)
def test_what_cannot_be_read_is_said_with_a_remedy(tmp_path: Path, conf: str, path: str, reason: str) -> None:
    (item,) = apache(tmp_path, conf).unreadable
    assert item.path == path
    assert reason in item.reason
    assert item.remedy
    assert item.found_in.startswith("/etc/apache2/apache2.conf:")


def test_nothing_is_logged_to_dev_null(tmp_path: Path) -> None:
    discovery = apache(tmp_path, "CustomLog /dev/null common\nErrorLog /dev/null\n")
    assert (discovery.logs, discovery.unreadable) == ((), ())


def test_includes_that_multiply_end(tmp_path: Path) -> None:
    """Each file includes the next twice: 2^40 readings if nobody counted."""
    files = {f"/etc/apache2/{n}.conf": f"Include {n + 1}.conf\nInclude {n + 1}.conf\n" for n in range(40)}
    discovery = apache(tmp_path, "CustomLog /a.log common\nInclude 0.conf\n", **files)
    assert [log.path for log in discovery.logs] == ["/a.log"]
    assert any("5000 files" in item.reason for item in discovery.unreadable)


def test_macros_that_multiply_end(tmp_path: Path) -> None:
    conf = "".join(f"<Macro M{n}>\nUse M{n + 1}\nUse M{n + 1}\n</Macro>\n" for n in range(40))
    discovery = apache(tmp_path, conf + "CustomLog /a.log common\nUse M0\n")
    assert [log.path for log in discovery.logs] == ["/a.log"]
    assert any("lines from macros" in item.reason for item in discovery.unreadable)


def test_bad_bytes_and_control_characters_harm_nobody(tmp_path: Path) -> None:
    conf = (
        b"# caf\xe9\r\n\xff\xfe\x00garbage \x00\r\nCustomLog /good.log common\r\nCustomLog /b\xe9d.log common\n"
        b"CustomLog /\x1b[2Jevil.log common\nCustomLog /n\x00l.log common\n<VirtualHost\nErrorLog\n\\"
    )
    discovery = discover(plant(tmp_path, {"/etc/apache2/apache2.conf": conf}), NOW_TS)
    assert [log.path for log in discovery.logs] == ["/good.log"]
    assert [item.path for item in discovery.unreadable] == ["/b\\xe9d.log", "/\\x1b[2Jevil.log", "/n\\x00l.log"]


def test_an_include_may_be_a_directory_and_defines_are_known(tmp_path: Path) -> None:
    files = {
        "/etc/apache2/d/one.conf": "Define LOGS /srv/logs\n",
        "/etc/apache2/d/sub/two.conf": "<IfDefine !SSL>\nCustomLog ${LOGS}/two.log common\n</IfDefine>\n",
        "/etc/apache2/d/sub/three.conf": "UnDefine X\nDefine ONLY\nGlobalLog /srv/logs/all.log common\n",
    }
    logs = by_path(apache(tmp_path, "IncludeOptional d\nIncludeOptional absent.conf\n", **files))
    assert sorted(logs) == ["/srv/logs/all.log", "/srv/logs/two.log"]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("|/usr/sbin/rotatelogs -l /var/log/httpd/access.%Y-%m-%d 86400", "/var/log/httpd/access.*-*-*"),
        ("|bin/rotatelogs /logs/access_log 86400", "/logs/access_log.*"),
        ("||/usr/bin/rotatelogs -L /logs/current -n 5 /logs/ring 10M", "/logs/ring*"),
        ("|$exec rotatelogs -t '/logs/with blank' 10M", None),
        ("|rotatelogs -t '/logs/with blank' 10M", "/logs/with blank"),
        ("|/usr/bin/cronolog --symlink=/l/cur /l/%Y/%m/access.log", "/l/*/*/access.log"),
        ("|rotatelogs /l/100%%.log 60", "/l/100%.log"),
        ("|rotatelogs", None),
        ("|rotatelogs 'unclosed", None),
        ("|", None),
        ("|/bin/sh -c 'cat > /tmp/x'", None),
    ],
)
def test_where_a_pipe_ends(target: str, path: str | None) -> None:
    found, reason = piped_target(target)
    assert found == path
    assert bool(reason) == (path is None)


def test_a_piped_log_is_a_glob_of_what_was_written(tmp_path: Path) -> None:
    files = {
        "/logs/access.2026-01-01": "old\n",
        "/logs/access.2026-01-02": "newer\n",
        "/logs/access.2026-01-01.gz": "squeezed",
        "/logs/access.2026-error-log": "error\n",
    }
    conf = 'CustomLog "|rotatelogs /logs/access.%Y-%m-%d 86400" common\nErrorLog /logs/access.2026-error-log\n'
    logs = by_path(apache(tmp_path, conf, **files))
    access = logs["/logs/access.*-*-*"]
    assert (access.files, access.size_bytes, access.exclude) == (2, 10, ("/logs/access.2026-error-log",))


def test_the_formats_of_a_stock_machine_can_be_read(tmp_path: Path) -> None:
    specs = {log.format for log in discover(debian(tmp_path), NOW_TS).logs if log.kind == "access"}
    assert len(specs) == 2
    for spec in specs:
        assert by_name(spec).kind == "access"
