"""Request lines and targets in one spelling."""

from __future__ import annotations

import pytest

from tocsin.formats.request import split_request


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("GET / HTTP/1.1", ("GET", "/", "/", "", "HTTP/1.1")),
        ("GET /a?b?c#d HTTP/2.0", ("GET", "/a?b?c#d", "/a", "b?c#d", "HTTP/2.0")),
        ("GET /a#b?c HTTP/1.1", ("GET", "/a#b?c", "/a", "", "HTTP/1.1")),
        ("PROPFIND /dav HTTP/1.1", ("PROPFIND", "/dav", "/dav", "", "HTTP/1.1")),
        ("get /x HTTP/1.1", ("get", "/x", "/x", "", "HTTP/1.1")),
        ("GET /a b HTTP/1.1", ("GET", "/a b", "/a b", "", "HTTP/1.1")),
        ("GET  /a  HTTP/1.1", ("GET", "/a", "/a", "", "HTTP/1.1")),
        ("OPTIONS sip:nm SIP/2.0", ("OPTIONS", "sip:nm", "sip:nm", "", "SIP/2.0")),
        ("OPTIONS * HTTP/1.1", ("OPTIONS", "*", "*", "", "HTTP/1.1")),
        ("CONNECT host:443 HTTP/1.1", ("CONNECT", "host:443", "host:443", "", "HTTP/1.1")),
        ("GET http://h HTTP/1.1", ("GET", "http://h", "/", "", "HTTP/1.1")),
        ("GET http://h?q HTTP/1.1", ("GET", "http://h?q", "/", "q", "HTTP/1.1")),
        ("GET HTTPS://u@h:1//a/./b?q HTTP/1.1", ("GET", "HTTPS://u@h:1//a/./b?q", "/a/b", "q", "HTTP/1.1")),
        ("GET /", ("GET", "/", "/", "", None)),
        ("GET /a b", ("GET", "/a b", "/a b", "", None)),
        ("-", (None, "", "", "", None)),
        ("", (None, "", "", "", None)),
        ("\x16\x03\x01", (None, "\x16\x03\x01", "", "", None)),
        ("hello world", (None, "hello world", "", "", None)),
        ("\x03\0 / HTTP/1.1", (None, "\x03\0 / HTTP/1.1", "", "", None)),
        ("GET  HTTP/1.1", (None, "GET  HTTP/1.1", "", "", None)),
        ("/only/a/path", (None, "/only/a/path", "", "", None)),
    ],
)
def test_request_lines(line: str, parts: tuple[object, ...]) -> None:
    assert split_request(line) == parts


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/%78mlrpc.php", "/xmlrpc.php"),
        ("/%2578", "/%78"),
        ("/%zz%4", "/%zz%4"),
        ("//wp-login.php", "/wp-login.php"),
        ("/a//b///", "/a/b/"),
        ("/./a/./", "/a/"),
        ("/a/../b", "/b"),
        ("/../../etc/passwd", "/etc/passwd"),
        ("/a/%2e%2e%2fb", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/...", "/..."),
        ("/.env", "/.env"),
        ("/a/.well-known", "/a/.well-known"),
        ("/caf%C3%A9", "/café"),
        ("/%ff", "/\\xff"),
        ("/%00", "/\0"),
    ],
)
def test_paths(target: str, path: str) -> None:
    assert split_request(f"GET {target}?x=%2e HTTP/1.1")[2:4] == (path, "x=%2e")
