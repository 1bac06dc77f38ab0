"""A small web site: pages with assets, and an xmlrpc.php that costs time; logs as Apache does, when a request ends."""

from __future__ import annotations

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = b"<html><link rel=stylesheet href=/style.css><script src=/site.js></script><img src=/logo.png></html>"
XMLRPC_COST_S = 0.05


class Handler(BaseHTTPRequestHandler):
    """Answers pages and assets, writes the combined log, and notes when each xmlrpc line was written."""

    protocol_version = "HTTP/1.1"
    log_fd = -1
    times_fd = -1

    def do_GET(self) -> None:
        """A page or an asset."""
        kind = {"css": "text/css", "js": "text/javascript", "png": "image/png"}.get(self.path.rsplit(".", 1)[-1])
        self._answer(200, PAGE if kind is None else b"x" * 400, kind or "text/html")

    def do_POST(self) -> None:
        """What the attackers are after."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(XMLRPC_COST_S)
        self._answer(200, b"x" * 820, "text/xml")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        referer, agent = (self.headers.get(name, "-").replace('"', '\\"') for name in ("Referer", "User-Agent"))
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z")
        line = (
            f'{self.client_address[0]} - - [{stamp}] "{self.requestline}" {status} {len(body)} "{referer}" "{agent}"\n'
        )
        now = time.time()
        os.write(self.log_fd, line.encode())
        if self.path == "/xmlrpc.php":
            os.write(self.times_fd, f"{self.client_address[0]} {now:.6f}\n".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's names
        """The library's own log is not wanted; ours is the access log."""


class Site(ThreadingHTTPServer):
    """Many connections at a time, none of which outlives the site."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle (a banned one does) is no error of the site's."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # the library's own types


def main() -> None:
    """Run as `site.py DIRECTORY`: serves port 80, writes access.log and times there."""
    folder = Path(sys.argv[1])
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    Handler.log_fd = os.open(folder / "access.log", flags, 0o644)
    Handler.times_fd = os.open(folder / "times", flags, 0o644)
    with Site(("0.0.0.0", 80), Handler) as site:  # noqa: S104  the namespace has no other network than the demo's
        site.serve_forever()


if __name__ == "__main__":
    main()
