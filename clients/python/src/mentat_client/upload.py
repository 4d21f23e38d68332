"""Sending a module in pieces, so that none of its messages is large.

Invariant: what the server says about a module is what is told, also where it says so before it has all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from mentat_client.errors import is_torn
from mentat_client.gen import runtime_pb2 as wire

if TYPE_CHECKING:
    from mentat_client.calls import Metadata
    from mentat_client.gen.runtime_pb2_grpc import WasmRuntimeAsyncStub
    from mentat_client.retry import Deadline

CHUNK_BYTES = 256 << 10
"""Bytes of a piece."""

PAUSES_SECONDS = (0.05, 1.0)
"""How long a server has to refuse the header before the first piece is sent, at first and when its answer was lost.

grpcio tells a write that failed in the place of the status that made it fail (grpc/grpc#36066). A server that refuses a
header is thus given a moment to say so before anything else is written.
"""


@dataclass(frozen=True)
class Upload:
    """A module on its way, behind its header."""

    stub: WasmRuntimeAsyncStub
    header: wire.LoadAgentHeader
    module: bytes
    deadline: Deadline
    metadata: Metadata

    async def send(self) -> wire.LoadAgentResponse:
        """Loads the module."""
        hasty, patient = PAUSES_SECONDS
        try:
            return await self._send(hasty)
        except grpc.aio.AioRpcError as status:
            if not is_torn(status):
                raise
        return await self._send(patient)

    async def _send(self, pause: float) -> wire.LoadAgentResponse:
        ended = asyncio.Event()
        pieces = self._pieces(pause, ended)
        call = self.stub.LoadAgentStream(pieces, timeout=self.deadline.remaining(), metadata=self.metadata)
        call.add_done_callback(lambda _: ended.set())
        return await call

    async def _pieces(self, pause: float, ended: asyncio.Event) -> AsyncIterator[wire.LoadAgentStreamRequest]:
        yield wire.LoadAgentStreamRequest(header=self.header)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), pause)
        for begin in range(0, len(self.module), CHUNK_BYTES):
            if ended.is_set():
                return
            yield wire.LoadAgentStreamRequest(chunk=self.module[begin : begin + CHUNK_BYTES])
