"""HTTP/1.1 by hand over asyncio, from any source address that the namespace has a local route for."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

READ_BYTES = 65536
BODY_BYTES = 4_000_000  # more of a page than this nobody reads


class Reply(NamedTuple):
    """What came back. `status` None: no reply at all (refused, reset, timed out)."""

    status: int | None
    headers: dict[str, str]
    body: bytes
    cookies: list[str]


NOTHING = Reply(None, {}, b"", [])


class Peer(NamedTuple):
    """Where the site is and whom it takes itself for."""

    host: str
    port: int
    vhost: str


class Link:
    """One client's connection, kept alive between requests as long as both sides like. Closed by `close`."""

    def __init__(self, peer: Peer, source: str, *, version: str = "1.1", keep: bool = True) -> None:
        self.peer, self.source, self.version, self.keep = peer, source, version, keep
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection, made where there is none. Raises OSError."""
        if self.reader is None or self.writer is None or self.reader.at_eof() or self.writer.is_closing():
            self.close()
            self.reader, self.writer = await asyncio.open_connection(
                self.peer.host, self.peer.port, local_addr=(self.source, 0), limit=2 * READ_BYTES
            )
        return self.reader, self.writer

    def close(self) -> None:
        """Hang up."""
        if self.writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self.writer.close()
        self.reader = self.writer = None

    def head(self, method: str, target: str, headers: dict[str, str], length: int | None) -> bytes:
        """The request line and headers, with the empty line."""
        lines = [f"{method} {target} HTTP/{self.version}", f"Host: {self.peer.vhost}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        if self.version == "1.1" and not self.keep:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def ask(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None = None, *, timeout_s: float = 20.0
    ) -> Reply:
        """One request and its reply; `NOTHING` where none came within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await self.open()
                writer.write(self.head(method, target, headers, None if body is None else len(body)) + (body or b""))
                await writer.drain()
                reply, last = await read_reply(reader, method)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.close()
            return NOTHING
        if last or not self.keep:
            self.close()
        return reply


async def read_reply(reader: asyncio.StreamReader, method: str) -> tuple[Reply, bool]:
    """A reply, and whether the server ends the connection after it. Raises what asyncio's streams raise, ValueError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    status = int(first.split(" ", 2)[1])
    headers: dict[str, str] = {}
    cookies = []
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.lower() == "set-cookie":
            cookies.append(value.split(";")[0].strip())
        elif colon:
            headers[name.lower()] = value.strip()
    bodiless = method == "HEAD" or status in (204, 304)
    body, ended = (b"", False) if bodiless else await read_body(reader, headers)
    last = ended or headers.get("connection", "").lower() == "close" or first.startswith("HTTP/1.0")
    return Reply(status, headers, body, cookies), last


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> tuple[bytes, bool]:
    """A body by its length, in chunks, or until the end; and whether the end of the connection ended it."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        await reader.readuntil(b"\r\n")
        return b"".join(parts), False
    if "content-length" in headers:
        return await reader.readexactly(min(int(headers["content-length"]), BODY_BYTES)), False
    return await reader.read(BODY_BYTES), True


async def ask_once(
    peer: Peer,
    source: str,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes | None = None,
    *,
    version: str = "1.1",
    timeout_s: float = 20.0,
) -> Reply:
    """One request on a connection of its own."""
    link = Link(peer, source, version=version, keep=False)
    try:
        return await link.ask(method, target, headers, body, timeout_s=timeout_s)
    finally:
        link.close()
