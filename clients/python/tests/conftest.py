"""A started server for the tests, guests for it to execute, and a way to it that can be cut."""

from __future__ import annotations

import asyncio
import os
import queue
import random
import signal
import subprocess
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from wasmtime import wat2wasm

from mentat_client import RetryPolicy, WasmRuntimeClient

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 60


class Server:
    """A `mentat serve` with a data directory of its own."""

    def __init__(self, folder: Path, settings: list[str], port: int = 0) -> None:
        program = os.environ.get("MENTAT_PROGRAM", str(ROOT / "target/debug/mentat"))
        assert Path(program).exists(), f"`{program}` is not there; run `cargo xtask test --only client`"
        command = [program, "serve", "--grpc", f"127.0.0.1:{port}", "--http", "127.0.0.1:0", "--data-dir", str(folder)]
        for setting in ["engine.max_executions=100", *settings]:
            command += ["--set", setting]
        self.log: list[str] = []
        # Variables of that kind are settings of the server.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MENTAT_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        ready: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._collect, args=(ready,), daemon=True).start()
        words = dict(word.split("=", 1) for word in ready.get(timeout=START_SECONDS).split())
        if not words:
            pytest.fail("the server did not start: " + "".join(self.log))
        self.grpc, self.http = words["grpc"], f"http://{words['http']}"

    def _collect(self, ready: queue.Queue[str]) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if line.startswith("mentat is ready: "):
                ready.put(line.removeprefix("mentat is ready: "))
        ready.put("")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    @property
    def port(self) -> int:
        return int(self.grpc.rpartition(":")[2])


class Servers:
    """Starts servers, and kills what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Server] = []

    def start(self, *settings: str, port: int = 0, data: str | None = None) -> Server:
        folder = self._folder / (data or f"data-{len(self._started)}")
        self._started.append(Server(folder, list(settings), port))
        return self._started[-1]

    def kill(self) -> None:
        for server in self._started:
            server.kill()


class Proxy:
    """A way to a server that is cut after some bytes of what comes back, as often as it is told to."""

    def __init__(self, port: int, cuts: int, seed: int) -> None:
        self._server_port = port
        self._left = cuts
        self._random = random.Random(seed)
        self.room = (300, 3000)
        self.cut = 0
        self.address = ""

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        upward = asyncio.create_task(self._copy(reader, server_writer, None))
        room = None
        if self._left > 0:
            self._left -= 1
            room = self._random.randrange(*self.room)
        await self._copy(server_reader, writer, room)
        upward.cancel()
        for end in (writer, server_writer):
            end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, room: int | None) -> None:
        try:
            while block := await reader.read(512):
                if room is not None and len(block) > room:
                    self.cut += 1
                    writer.write(block[:room])
                    await writer.drain()
                    return
                writer.write(block)
                await writer.drain()
                room = None if room is None else room - len(block)
        except ConnectionError:
            pass


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Starts servers of the test's own."""
    servers = Servers(tmp_path)
    yield servers
    servers.kill()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for tests that leave it as it is; each has agents of its own."""
    servers = Servers(tmp_path_factory.mktemp("shared"))
    yield servers.start()
    servers.kill()


@pytest_asyncio.fixture
async def client(shared: Server) -> AsyncGenerator[WasmRuntimeClient, None]:
    """A client of the shared server, which tries once."""
    async with WasmRuntimeClient(shared.grpc, retry=RetryPolicy.never()) as client:
        yield client


def wat(text: str) -> bytes:
    return bytes(wat2wasm(text))


def guest(path: str) -> bytes:
    """One of the guests that the runtime's own tests have."""
    return wat((ROOT / "tests/guests" / path).read_text())


def manifest(agent_id: str, version: str = "1.0.0", wasm: str = "  timeout_ms: 20000\n") -> str:
    return f"id: {agent_id}\nversion: {version}\nruntime: wasm\nmodule: agent.wasm\nwasm:\n{wasm}"


ECHO = guest("well-behaved/echo.wat")

LONG = "  timeout_ms: 120000\n  fuel: 1000000000000\n"
"""Limits of those that run until they are ended."""

LOOP = wat('(module (memory (export "memory") 1) (func (export "process") (result i32) (loop (br 0)) (i32.const 0)))')

HOARD = wat("""(module (memory (export "memory") 1)
  (func (export "process") (result i32)
    (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))""")

RECURSE = wat("""(module (memory (export "memory") 1)
  (func $down (result i32) (i32.add (call $down) (i32.const 1)))
  (func (export "process") (result i32) (call $down)))""")

COUNT = wat("""(module
  (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
  (import "mentat" "end_stream" (func $end (param i32) (result i32)))
  (import "mentat" "write_output" (func $output (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "numbers")
  (func (export "process") (result i32)
    (local $stream i32) (local $number i32)
    (local.set $stream (call $start (i32.const 0) (i32.const 7)))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 4000000))
    (loop $next
      (i32.store (i32.const 16) (local.get $number))
      (drop (call $write (local.get $stream) (i32.const 16) (i32.const 60)))
      (drop (call $poll (i32.const 64) (i32.const 400) (i32.const 1) (i32.const 500)))
      (local.set $number (i32.add (local.get $number) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $number) (i32.const 200))))
    (drop (call $end (local.get $stream)))
    (drop (call $output (i32.const 0) (i32.const 7)))
    (i32.const 0)))""")
"""Writes 200 chunks to the stream `numbers`, one every 4 ms, each with its number in its first four bytes."""
