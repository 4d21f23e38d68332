"""A page that shows a flow as it runs: a small HTTP server of three files and one stream of server-sent events.

For this machine alone: it listens on loopback, and answers only who calls it by a loopback name. What agents say is
sent as JSON, and put into the page as text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path

FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
HEAD_BYTES = 16 << 10
HEAD_SECONDS = 10.0
KEPT_MESSAGES = 10_000
HEADERS = (
    "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n"
)


class Page:
    """What the page shows: messages in their order. Who comes late or comes back is told what it has not seen."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        self._news = asyncio.Condition()
        self._over = False

    async def tell(self, **message: object) -> None:
        """Adds a message; beyond 10,000 of them the page is told no more."""
        if len(self._messages) < KEPT_MESSAGES:
            self._messages.append(json.dumps(message))
        await self._wake()

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    @contextlib.asynccontextmanager
    async def serve(self, port: int) -> AsyncGenerator[str, None]:
        """Serves the page on loopback; tells its address."""
        server = await asyncio.start_server(self._answer, "127.0.0.1", port, limit=HEAD_BYTES)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        finally:
            server.close()
            self._over = True
            await self._wake()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
            except asyncio.LimitOverrunError:
                head = b""
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            method, _, rest = first.partition(" ")
            await self._reply(writer, method, rest.partition(" ")[0], headers)
        writer.close()

    async def _reply(self, writer: asyncio.StreamWriter, method: str, path: str, headers: dict[str, str]) -> None:
        host = headers.get("host", "").rpartition(":")[0]
        if method != "GET" or host not in ("127.0.0.1", "localhost"):
            await self._send(writer, "403 Forbidden", "text/plain", b"this page is for a browser on its own machine")
        elif path == "/events":
            last = headers.get("last-event-id", "")
            await self._stream(writer, int(last) + 1 if last.isascii() and last.isdigit() else 0)
        elif path in FILES:
            name, kind = FILES[path]
            await self._send(writer, "200 OK", kind, Path(__file__).with_name(name).read_bytes())
        else:
            await self._send(writer, "404 Not Found", "text/plain", b"there is nothing here")

    async def _send(self, writer: asyncio.StreamWriter, status: str, kind: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}; charset=utf-8\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + HEADERS.encode() + b"\r\n" + body)
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, begin: int) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{HEADERS}\r\n".encode())
        told = begin

        def has_news() -> bool:
            return told < len(self._messages)

        while not self._over or has_news():
            while has_news():
                writer.write(f"id: {told}\ndata: {self._messages[told]}\n\n".encode())
                told += 1
            await writer.drain()
            async with self._news:
                await self._news.wait_for(lambda: has_news() or self._over)
