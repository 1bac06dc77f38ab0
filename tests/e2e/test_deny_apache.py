"""A real Apache turns requests of a class away, for those who are not spared, as long as somebody says so."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from enforcing import ATTACKER4, ATTACKER6, NEIGHBOUR4, NEIGHBOUR6, SAME64, SERVER4, SERVER6, Site
from guarding import Guard, scratch
from netns import wait_until
from webs import MODULES, PORT, Asker, Denier, Web, denier, need

from tocsin.enforce.webserver import LEASE_S
from tocsin.ledger.store import Ledger
from tocsin.model import Decision, Signature

XMLRPC = Signature("POST", "/xmlrpc.php")
_MAIN = """
ServerRoot {folder}
PidFile {folder}/apache.pid
Listen {port}
ServerName main.example
User www-data
Group www-data
TypesConfig /etc/mime.types
{modules}
ErrorLog {folder}/error.log
DocumentRoot {folder}/htdocs
<Directory {folder}/htdocs>
    Require all granted
    AllowOverride All
</Directory>
Alias /index.php {folder}/htdocs/index.html
ProxyPass /behind/ http://127.0.0.1:9/
<FilesMatch "\\.fpm$">
    SetHandler "proxy:fcgi://127.0.0.1:9"
</FilesMatch>
IncludeOptional {folder}/tocsin.con[f]
<VirtualHost *:{port}>
    ServerName shop.example
    ServerAlias m.shop.example sale.example
</VirtualHost>
<VirtualHost *:{port}>
    ServerName plain.example
    RewriteEngine On
    RewriteRule ^/old$ /page.html [L]
    ErrorDocument 429 /page.html
    Header always set Content-Security-Policy "default-src 'self'"
    Header always set Cache-Control "public, max-age=86400"
</VirtualHost>
"""


def apache(site: Site, folder: Path) -> Web:
    """An Apache that can be set up, not started yet."""
    names = [
        "mpm_prefork",
        "authz_core",
        "dir",
        "mime",
        "alias",
        "rewrite",
        "setenvif",
        "headers",
        "proxy",
        "proxy_http",
        "proxy_fcgi",
    ]
    modules = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in names)
    web = Web(site.server, folder, "apache")
    (folder / "main.conf").write_text(_MAIN.format(folder=folder, port=PORT, modules=modules))
    (web.site / ".htaccess").write_text("RewriteEngine On\nRewriteRule ^pretty$ /index.php [L]\n")
    return web


def start(web: Web) -> None:
    web.start("apache2", "-f", str(web.folder / "main.conf"), "-D", "FOREGROUND")


@pytest.fixture
def web(site: Site) -> Iterator[Web]:
    need("apache2")
    with scratch() as folder, apache(site, folder) as one:
        one.setup("--yes")
        start(one)
        yield one


@pytest.fixture
def asker(site: Site) -> Asker:
    return Asker(site.outside, SERVER4)


@pytest.fixture
def deny(web: Web) -> Iterator[Denier]:
    with denier(web) as one:
        yield one


def test_a_class_is_turned_away_and_let_in_again_in_every_virtual_host(deny: Denier, asker: Asker) -> None:
    assert asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 200
    assert deny.deny("d1", XMLRPC).ok
    for host in ("shop.example", "plain.example"):
        for target in ("/xmlrpc.php", "//xmlrpc.php?a=b", "/x/../xmlrpc%2ephp"):
            assert asker.ask(ATTACKER4, target, "POST", Host=host) == 429
        assert asker.ask(ATTACKER4, "/xmlrpc.php", Host=host) == 200
        assert asker.ask(ATTACKER4, "/xmlrpc.php.txt", "POST", Host=host) == 404
    assert asker.ask(ATTACKER4, "/old", Host="plain.example") == 200
    status, headers, _ = asker.answer(ATTACKER4, "/xmlrpc.php", "POST", Host="plain.example")
    assert (status, headers["Connection"]) == (429, "close")
    assert "Vary" not in asker.answer(NEIGHBOUR4, "/index.html")[1]
    assert deny.allow("d1").ok
    assert asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 200


def test_the_spared_and_the_allowed_are_served(deny: Denier, site: Site, asker: Asker) -> None:
    six = Asker(site.outside, SERVER6)
    assert deny.deny("d1", XMLRPC, [NEIGHBOUR4, "2001:db8:a:1::/64"]).ok
    answers = {source: asker.ask(source, "/xmlrpc.php", "POST") for source in (ATTACKER4, NEIGHBOUR4, "10.66.0.130")}
    assert answers == {ATTACKER4: 429, NEIGHBOUR4: 200, "10.66.0.130": 200}  # the last one is in [allow]
    sources = (ATTACKER6, SAME64, NEIGHBOUR6, "2001:db8:66::2")
    assert [six.ask(source, "/xmlrpc.php", "POST") for source in sources] == [200, 200, 200, 429]
    inside = Asker(site.server, SERVER4)
    assert inside.ask(SERVER4, "/xmlrpc.php", "POST") == 200
    # The same class again, with others spared: the newest counts, and its lift does not touch what came after it.
    assert deny.deny("d2", XMLRPC, [ATTACKER4]).ok
    assert deny.allow("d1").ok
    assert [asker.ask(source, "/xmlrpc.php", "POST") for source in (ATTACKER4, NEIGHBOUR4)] == [200, 429]


@pytest.mark.parametrize(
    ("groups", "spare"),
    [
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:db8::7", "2001:db8::/64"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("2001:db8:0:0:1::4", "2001:db8::/64"),
        ("2001:db8:5::", "2001:db8:5::/64"),
        ("2001:db8:5:0:1:2:3:4", "2001:db8:5::/64"),
    ],
)
def test_a_spared_network_is_known_however_its_address_is_written(
    web: Web, deny: Denier, site: Site, groups: str, spare: str
) -> None:
    assert deny.deny("d1", XMLRPC, [spare]).ok
    web.namespace.run("ip", "route", "add", "2001:db8::/40", "via", "2001:db8:66::2")
    other = str(groups).replace("2001:db8", "2001:db8:99", 1) if groups.count(":") < 7 else "2001:db8:6::7"
    site.outside.addresses("eth0", f"{groups}/128", f"{other}/128")
    six = Asker(site.outside, SERVER6)
    assert [six.ask(source, "/xmlrpc.php", "POST") for source in (groups, other)] == [200, 429]


HOSTILE = (
    '"',
    "\\",
    "a b",
    "%{x}",
    "$1",
    "`id`",
    "'",
    "\\1",
    "#",
    "<If>",
    "é",
    "${y}",
    "%00",
    "(?:",
    "[",
    ")*",
    "|;{}",
)


def test_no_text_of_a_class_means_anything_but_itself(web: Web, deny: Denier, asker: Asker) -> None:
    for text in HOSTILE:
        assert deny.deny("agent", Signature(user_agent=text)).ok
        agents = (f"a{text}z", text, text[1:] + "x" if len(text) > 1 else "x", "Mozilla/5.0")
        assert [asker.ask(ATTACKER4, "/", User_Agent=agent) for agent in agents] == [429, 429, 200, 200], text
        assert deny.allow("agent").ok
        query = text.replace(" ", "").replace("#", "")
        assert deny.deny("query", Signature("GET", "/", query=query or "x")).ok
        assert asker.ask(ATTACKER4, f"/?q&{query or 'x'}&b") == 429, text
        assert asker.ask(ATTACKER4, "/?q=other") == 200
        assert deny.allow("query").ok
    assert "error" not in (web.folder / "error.log").read_text().replace("[core:notice]", "")


def test_each_part_of_a_class_is_asked_for(deny: Denier, asker: Asker) -> None:
    def answers(signature: Signature, *requests: tuple[str, dict[str, str]]) -> list[int]:
        assert deny.deny("d", signature).ok
        found = [asker.ask(ATTACKER4, target, **headers) for target, headers in requests]
        assert deny.allow("d").ok
        return found

    some = Signature(path="/a*/*/b*.php")
    targets: list[tuple[str, dict[str, str]]] = [
        ("/a/x/b.php", {}),
        ("/ab/x/bcd.php", {}),
        ("/ab/bcd.php", {}),
        ("/a/x/y/b.php", {}),
        ("/a/x/b.phps", {}),
    ]
    assert answers(some, *targets) == [429, 429, 404, 404, 404]
    none = Signature("GET", "/", query="")
    assert answers(none, ("/", {}), ("/?", {}), ("/?a", {})) == [429, 429, 200]
    shop = Signature("GET", "/", vhost="shop.example")
    hosts = ("shop.example", "SHOP.example:8081", "www.shop.example", "sale.example", "plain.example", "myshop.example")
    assert answers(shop, *[("/", {"Host": host}) for host in hosts]) == [429] * 4 + [200, 200]
    agentless = Signature("GET", "/", user_agent="")
    assert answers(agentless, ("/", {}), ("/", {"User_Agent": "-"}), ("/", {"User_Agent": "x"})) == [429, 429, 200]


def test_what_the_site_rewrites_within_itself_is_not_what_the_client_asked_for(deny: Denier, asker: Asker) -> None:
    assert deny.deny("d", Signature(path="/index.php")).ok
    assert [asker.ask(ATTACKER4, target) for target in ("/index.php", "/pretty")] == [429, 200]


def test_what_another_program_would_answer_is_turned_away_before_it_is_asked(
    web: Web, deny: Denier, asker: Asker
) -> None:
    (web.site / "page.fpm").touch()
    targets = ("/behind/x", "/page.fpm")
    assert [asker.ask(ATTACKER4, target) for target in targets] == [503, 503]  # nobody is there to be asked
    for target in targets:
        assert deny.deny(target, Signature(path=target)).ok
    assert [asker.ask(ATTACKER4, target) for target in targets] == [429, 429]


BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
_SETS = re.compile(r"document\.cookie='(tocsin=[0-9a-f]{32});").search


def test_who_claims_to_be_a_browser_is_asked_to_show_it_and_let_through(deny: Denier, asker: Asker, web: Web) -> None:
    (web.site / "style.css").touch()
    assert deny.deny("a1", Signature("GET"), [NEIGHBOUR4], action="limit").ok
    googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    old = "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)"
    tool = "Mozilla/5.0 (compatible; Google-InspectionTool/1.0;)"
    agents = (BROWSER, old, googlebot, tool, "wp-iphone/25.1", "Feedbin feed-id:1 - 2 subscribers")
    assert [asker.ask(ATTACKER4, "/", User_Agent=each) for each in agents] == [429, 429, 200, 200, 200, 200]
    for target, method, status in (("/style.css", "GET", 200), ("/xmlrpc.php", "POST", 200), ("/nothing", "GET", 429)):
        assert asker.ask(ATTACKER4, target, method, User_Agent=BROWSER) == status
    assert asker.ask(NEIGHBOUR4, "/", User_Agent=BROWSER) == 200
    assert asker.ask(ATTACKER4, "/xmlrpc.php/a.css", User_Agent=BROWSER) == 429, "no file, but a program's answer"
    for host in ("shop.example", "plain.example"):
        status, headers, _ = asker.answer(ATTACKER4, "/", Host=host, User_Agent=BROWSER)
        assert (status, headers["Cache-Control"]) == (429, "no-store")
        assert "Content-Security-Policy" not in headers, "the script is to run"
    shown = _SETS(asker.answer(ATTACKER4, "/page.html", User_Agent=BROWSER)[2])
    assert shown is not None
    cookies = (shown[1], f"a=b; {shown[1]}; c=d", f"{shown[1]}0", f"tocsin={'0' * 32}", "tocsin=../../classes", "")
    assert [asker.ask(ATTACKER4, "/", User_Agent=BROWSER, Cookie=each) for each in cookies] == [200, 200] + [429] * 4
    # What is posted is turned away with the cookie, too; a page, whoever asks, only without.
    assert deny.deny("d1", XMLRPC).ok
    assert deny.deny("d2", Signature("GET", "/page.html")).ok
    assert asker.ask(ATTACKER4, "/xmlrpc.php", "POST", User_Agent=BROWSER, Cookie=shown[1]) == 429
    assert asker.ask(ATTACKER4, "/page.html", User_Agent="curl/8.5.0") == 429
    assert asker.ask(ATTACKER4, "/page.html", User_Agent="curl/8.5.0", Cookie=shown[1]) == 200
    assert deny.allow("a1").ok
    assert [asker.ask(ATTACKER4, each, User_Agent=BROWSER) for each in ("/", "/page.html")] == [200, 429]
    assert deny.allow("d2").ok
    # The next time it is another cookie.
    assert deny.deny("a2", Signature("GET"), action="limit").ok
    assert asker.ask(ATTACKER4, "/", User_Agent=BROWSER, Cookie=shown[1]) == 429


def test_very_long_requests_are_answered_soon(deny: Denier, asker: Asker) -> None:
    assert deny.deny("d", Signature("GET", "/a*/*/*/*b", query="aaaaaaaaab", user_agent="aaaaaaaaab")).ok
    began_s = time.monotonic()
    for target in (f"/{'a' * 7000}?{'a' * 900}", f"/{'a/' * 3500}", f"/a/{'-' * 2000}/{'b' * 5000}?{'a' * 900}b"):
        assert asker.ask(ATTACKER4, target, User_Agent="a" * 7000) in (403, 404)
    assert time.monotonic() - began_s < 2.0


def test_nothing_is_denied_once_nobody_renews_it(web: Web, deny: Denier, asker: Asker) -> None:
    assert deny.deny("d", XMLRPC).ok
    os.kill(deny.process.pid, signal.SIGSTOP)
    assert asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 429
    os.kill(deny.process.pid, signal.SIGKILL)
    passed_s = wait_until(lambda: asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 200, "let in", LEASE_S + 5.0)
    assert passed_s <= LEASE_S + 1
    with denier(web) as other:
        assert (web.directory / "classes").read_bytes() == b""
        assert list((web.directory / "spare").iterdir()) == []
        assert other.deny("d", XMLRPC, end_s=1.5).ok
        assert asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 429
        wait_until(lambda: asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 200, "over by itself", 5.0)
        assert other.deny("e", XMLRPC).ok
    wait_until(lambda: asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 200, "over with the enforcer", 5.0)


def test_the_enforcer_refuses_what_is_not_narrow_or_not_sound(deny: Denier, asker: Asker) -> None:
    for signature in (
        Signature("POST"),
        Signature(path="/*"),
        Signature(path="/a\nb"),
        Signature(user_agent="x" * 1100),
    ):
        receipt = deny.deny("d", signature)
        assert not receipt.ok
        assert "expected" in receipt.error or "most of the site" in receipt.error or "needs" in receipt.error
    assert not deny.deny("d", XMLRPC, ["192.0.2.0/24"]).ok
    assert not deny.deny("d", XMLRPC, end_s=7200).ok
    for number in range(16):
        assert deny.deny(f"n{number}", Signature(path=f"/{number}")).ok
    assert "16 classes" in deny.deny("n16", Signature(path="/16")).error
    assert [asker.ask(ATTACKER4, f"/{number}") for number in (0, 15, 16)] == [429, 429, 404]


def test_setup_shows_asks_and_takes_back(site: Site) -> None:
    need("apache2")
    with scratch() as folder, apache(site, folder) as web:
        conf, main = folder / "tocsin.conf", folder / "main.conf"
        web.setup(code=64)
        assert not conf.exists()
        sound = main.read_text()
        main.write_text(sound.replace("IncludeOptional", "# IncludeOptional"))
        web.setup("--yes", code=69)
        assert not conf.exists()
        main.write_text(f"{sound}\nNonsense on\n")
        web.setup("--yes", code=69)
        assert not conf.exists()
        main.write_text(sound)
        done = web.setup("--yes")
        assert done["changed"]
        assert "+<If " in done["diff"]
        assert not web.setup("--yes")["changed"]
        assert web.setup("--yes", "--remove")["changed"]
        assert not conf.exists()
        assert not (folder / "web.json").exists()
        start(web)
        with denier(web) as other:
            assert "not set up" in other.deny("d", XMLRPC).error


def test_guard_takes_up_what_it_denied_and_lets_go_with_a_kill(site: Site, asker: Asker) -> None:
    need("apache2")
    with scratch() as folder, apache(site, folder) as web, scratch() as own:
        guard = Guard(site.server, own, f'[web]\ndir = "{web.directory}"\n')
        web.setup("--yes")
        start(web)
        shutil.copy(folder / "web.json", own)
        now_ts = time.time()
        seed(guard.state, Decision("d", "deny-request", "", now_ts, now_ts + 600, "contrast", None, signature=XMLRPC))
        try:
            guard.start()
            wait_until(lambda: asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 429, "denied")
            told = guard.need_status()["web"]
            assert told["server"] == "apache"
            signature = {"method": "POST", "path": "/xmlrpc.php"}
            shown = {
                "action": "deny-request",
                "signature": signature,
                "until_ts": now_ts + 600,
                "spared": 0,
                "ok": True,
                "error": "",
            }
            assert told["denied"] == [shown]
            guard.kill("enforce")
            wait_until(lambda: guard.said_text().count("guard is on:") == 2, "guard again")
            wait_until(lambda: asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 429, "denied again")
            guard.kill()
            wait_until(lambda: asker.ask(ATTACKER4, "/xmlrpc.php", "POST") == 200, "let in", LEASE_S + 5.0)
        finally:
            guard.stop()


def seed(state: Path, decision: Decision) -> None:
    """A ledger that holds a decision, as guard's user has left it."""
    ledger = Ledger(state / "ledger.db", 86400.0, 1000, time.time)
    ledger.start()
    ledger.decision(decision)
    assert ledger.close(10)
    try:
        account = pwd.getpwnam("tocsin")
    except KeyError:
        account = pwd.getpwnam("nobody")
    for path in (state, *state.iterdir()):
        os.chown(path, account.pw_uid, account.pw_gid)
