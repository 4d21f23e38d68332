"""Calls: the channel to a server, and what every call of it has in common.

Owns deadlines, credentials and attempts. Knows no message of the contract.

Invariant: no call waits without end, and none is made again but after `UNAVAILABLE`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc

from mentat_client.errors import from_status
from mentat_client.gen import runtime_pb2_grpc

if TYPE_CHECKING:
    from mentat_client.connection import Target
    from mentat_client.errors import MentatError
    from mentat_client.gen.runtime_pb2_grpc import WasmRuntimeAsyncStub
    from mentat_client.retry import Deadline, RetryPolicy

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Opened:
    """A channel, and the event loop that it belongs to."""

    loop: asyncio.AbstractEventLoop
    channel: grpc.aio.Channel
    stub: WasmRuntimeAsyncStub


class Calls:
    """The calls of one client."""

    def __init__(self, target: Target, retry: RetryPolicy, trace: Callable[[], str | None] | None) -> None:
        self.target = target
        self._retry = retry
        self._trace = trace
        self._opened: _Opened | None = None

    @property
    def stub(self) -> WasmRuntimeAsyncStub:
        """The methods of the service, by a channel of the running event loop, which is opened where there is none."""
        loop = asyncio.get_running_loop()
        if self._opened is None or self._opened.loop is not loop:
            if self._opened is not None and self._opened.loop.is_running():
                raise RuntimeError("this client is used by another event loop that is running; have one for each loop")
            # A channel of a loop that is over goes with it.
            channel = self.target.open()
            self._opened = _Opened(loop, channel, runtime_pb2_grpc.WasmRuntimeStub(channel))
        return self._opened.stub

    async def close(self) -> None:
        """Closes the channel; the next call opens another one."""
        opened, self._opened = self._opened, None
        if opened is not None and opened.loop is asyncio.get_running_loop():
            await opened.channel.close()

    def metadata(self, traceparent: str | None) -> Metadata:
        """What a call carries besides its request."""
        if traceparent is None and self._trace is not None:
            traceparent = self._trace()
        return self.target.metadata(traceparent)

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        deadline: Deadline,
        traceparent: str | None,
    ) -> Answer:
        """Makes a call of one request and one answer."""
        return await self.attempt(
            lambda timeout, metadata: method(request, timeout=timeout, metadata=metadata), deadline, traceparent
        )

    async def attempt(
        self,
        call: Callable[[float | None, Metadata], Awaitable[Answer]],
        deadline: Deadline,
        traceparent: str | None,
        is_final: Callable[[MentatError], bool] = lambda _: False,
    ) -> Answer:
        """Makes a call until it is answered, or its error is one to be told."""
        failures = 0
        while True:
            try:
                return await call(deadline.remaining(), self.metadata(traceparent))
            except grpc.aio.AioRpcError as status:
                failures += 1
                error = from_status(status)
                if is_final(error):
                    raise error from status
                await self.wait(failures, error, deadline)

    async def wait(self, failures: int, error: MentatError, deadline: Deadline) -> None:
        """Waits for the next attempt after that many failures in a row; raises the error where there is none."""
        delay = self._retry.delay(failures, error)
        if delay is None or not deadline.allows(delay):
            raise error
        await asyncio.sleep(delay)
