"""The client of a runtime: the calls of its service, as an orchestrator makes them.

Owns what a call means: what it asks, what it tells, and what becomes of it when the connection is lost. Knows nothing
of where agents come from; that is the selector's.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from mentat_client import events
from mentat_client.calls import Calls
from mentat_client.connection import Address, ApiKey, Target, Tls
from mentat_client.errors import (
    ExecutionNotFoundError,
    InvalidRequestError,
    MentatError,
    UnavailableError,
    from_status,
)
from mentat_client.events import Missed
from mentat_client.gen import runtime_pb2 as wire
from mentat_client.retry import Deadline, RetryPolicy
from mentat_client.upload import Upload

if TYPE_CHECKING:
    from types import TracebackType

    from mentat_client.events import Event

MAX_MESSAGE_BYTES = 256 << 20
"""Bytes of a message at most, as the server has it where it is not configured."""

STREAMED_MODULE_BYTES = 1 << 20
"""Modules from this size on are sent in pieces."""

PAGE_SIZE = 1000
"""Agents that are asked for at once; the most that the server tells."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds that calls are given where they are not told otherwise, all attempts together.

    `load` has a compile in it. An execution is given no more time by the server than its call has. `math.inf` is no
    deadline.
    """

    call: float = 30.0
    load: float = 300.0
    execute: float = 300.0
    stream: float = 3600.0


def new_execution_id() -> str:
    """An id for an execution, of the caller's own making: a UUID of version 7 (RFC 9562)."""
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds << 80) | secrets.randbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


class WasmRuntimeClient:
    """A runtime, and who calls it. Close it when it is not needed any more, or use it with `async with`.

    It belongs to one event loop at a time; where that is over, as after `asyncio.run`, the next may use it.

    `server` is `HOST:PORT` or has a scheme, `https://HOST:PORT`. `api_key` goes with every call, over an encrypted
    connection or to this machine. `traceparent` is asked at every call for the trace that the call belongs to.
    """

    def __init__(
        self,
        server: str = "127.0.0.1:50051",
        *,
        api_key: str | None = None,
        tls: Tls | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        traceparent: Callable[[], str | None] | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        allow_unencrypted_key: bool = False,
    ) -> None:
        address = Address.parse(server, tls)
        key = None if api_key is None else ApiKey.checked(api_key, address, unencrypted=allow_unencrypted_key)
        target = Target(address, tls, key, max_message_bytes)
        self._calls = Calls(target, retry or RetryPolicy(), traceparent)
        self._timeouts = timeouts or Timeouts()

    def __repr__(self) -> str:
        return f"WasmRuntimeClient({self._calls.target.address.target!r})"

    async def __aenter__(self) -> WasmRuntimeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; executions that calls wait for are ended. It opens again when it is used."""
        await self._calls.close()

    async def is_loaded(
        self, agent_id: str, version: str = "", *, timeout: float | None = None, traceparent: str | None = None
    ) -> bool:
        """Whether the agent, or that version of it, can be executed."""
        request = wire.IsLoadedRequest(agent_id=agent_id, version=version)
        deadline = _deadline(timeout, self._timeouts.call)
        return (await self._calls.unary(self._calls.stub.IsLoaded, request, deadline, traceparent)).loaded

    async def load_agent(
        self,
        agent_id: str,
        wasm_bytes: bytes,
        manifest: str,
        *,
        replace: bool = False,
        timeout: float | None = None,
        traceparent: str | None = None,
    ) -> wire.LoadAgentResponse:
        """Loads an agent and makes it the active version of its id. When this answers, the agent is durable.

        `agent_id` must be the manifest's; empty takes it from there. The attestation stands in the manifest. An agent
        whose runtime is `container` has no module: `b""`. A version that is loaded with other content is refused,
        unless it is to be replaced.
        """
        deadline = _deadline(timeout, self._timeouts.load)
        if len(wasm_bytes) < STREAMED_MODULE_BYTES:
            whole = wire.LoadAgentRequest(agent_id=agent_id, wasm_bytes=wasm_bytes, manifest=manifest, replace=replace)
            return await self._calls.unary(self._calls.stub.LoadAgent, whole, deadline, traceparent)
        header = wire.LoadAgentHeader(
            agent_id=agent_id, manifest=manifest, replace=replace, total_bytes=len(wasm_bytes)
        )

        return await self._calls.attempt(
            lambda _, metadata: Upload(self._calls.stub, header, wasm_bytes, deadline, metadata).send(),
            deadline,
            traceparent,
        )

    async def execute_agent(
        self,
        agent_id: str,
        input: bytes = b"",  # noqa: A002 - its name on the wire, and in MentatLab
        *,
        manifest: str = "",
        sandbox_config: wire.SandboxConfig | None = None,
        version: str = "",
        execution_id: str = "",
        include_logs: bool = False,
        receipt: bool = False,
        timeout: float | None = None,
        traceparent: str | None = None,
    ) -> wire.ExecuteAgentResponse:
        """Executes an agent on an input, and answers what it wrote and its exit code, which may be other than 0.

        Cancelling this ends the execution. Where the connection is lost, the server ends the execution, and it is
        executed again: an agent that has effects outside may have them twice. An execution with an `execution_id` is
        not begun a second time; what came of the first is told by `get_execution`.
        """
        request = wire.ExecuteAgentRequest(
            agent_id=agent_id,
            input=input,
            manifest=manifest,
            sandbox_config=sandbox_config,
            version=version,
            execution_id=execution_id,
            include_logs=include_logs,
            receipt=receipt,
        )
        deadline = _deadline(timeout, self._timeouts.execute)
        return await self._execute(request, deadline, traceparent)

    async def start_agent(
        self,
        agent_id: str,
        input: bytes = b"",  # noqa: A002 - as in `execute_agent`
        *,
        manifest: str = "",
        sandbox_config: wire.SandboxConfig | None = None,
        version: str = "",
        execution_id: str = "",
        receipt: bool = False,
        timeout: float | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Begins an execution that goes on by itself, and answers its id, which is that of its events.

        It is begun once, also where the connection is lost while it begins. With an `execution_id` of the caller's own
        making it can be cancelled, too, where the deadline passes before the answer.
        """
        execution_id = execution_id or new_execution_id()
        request = wire.ExecuteAgentRequest(
            agent_id=agent_id,
            input=input,
            manifest=manifest,
            sandbox_config=sandbox_config,
            version=version,
            execution_id=execution_id,
            receipt=receipt,
            detach=True,
        )
        deadline = _deadline(timeout, self._timeouts.call)
        try:
            await self._execute(request, deadline, traceparent)
        except UnavailableError:
            # Perhaps the answer was lost and nothing else.
            if not await self._has_begun(execution_id, deadline, traceparent):
                raise
        return execution_id

    async def execute_agent_stream(
        self,
        agent_id: str,
        input: bytes = b"",  # noqa: A002 - as in `execute_agent`
        *,
        manifest: str = "",
        sandbox_config: wire.SandboxConfig | None = None,
        version: str = "",
        execution_id: str = "",
        receipt: bool = False,
        timeout: float | None = None,
        traceparent: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Executes an agent and tells its events as they come; the last one is an `End`.

        Leaving the loop ends the execution (at once with `contextlib.aclosing`). It is executed again where the
        connection is lost before the first event, and not after. An execution that is to outlive its connection is
        begun by `start_agent` and followed by `stream_events`.
        """
        request = wire.ExecuteAgentRequest(
            agent_id=agent_id,
            input=input,
            manifest=manifest,
            sandbox_config=sandbox_config,
            version=version,
            execution_id=execution_id,
            receipt=receipt,
        )
        deadline = _deadline(timeout, self._timeouts.execute)
        attempts = _Attempts(execution_id)
        failures, told = 0, False
        while True:
            call = self._calls.stub.ExecuteAgentStream(
                request, timeout=deadline.remaining(), metadata=self._calls.metadata(traceparent)
            )
            try:
                async for message in call:
                    told = True
                    if (event := events.read(message)) is not None:
                        yield event
                return
            except grpc.aio.AioRpcError as status:
                failures += 1
                error = from_status(status)
                if told or attempts.is_final(error):
                    raise await self._explained(attempts, error, deadline, traceparent) from status
                await self._calls.wait(failures, error, deadline)
            finally:
                call.cancel()

    async def stream_events(
        self,
        stream_id: str,
        from_sequence: int = 0,
        *,
        timeout: float | None = None,
        traceparent: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Follows an execution, whoever began it, from the event of that number on.

        First come the events that are kept, then the others as they are said; the last one is an `End`. Of an execution
        that failed, its error is raised in the place of it. Where the connection is lost, this goes on by itself behind
        the last event that it told: each is told once, and in order. Events are kept in the server's memory for a
        while: behind that, and of executions before it was started again, there is a `StreamNotFoundError`.
        """
        deadline = _deadline(timeout, self._timeouts.stream)
        failures, expected = 0, from_sequence
        while True:
            request = wire.StreamEventsRequest(stream_id=stream_id, from_sequence=expected)
            call = self._calls.stub.StreamEvents(
                request, timeout=deadline.remaining(), metadata=self._calls.metadata(traceparent)
            )
            try:
                async for message in call:
                    failures = 0
                    event = events.read(message)
                    is_wanted = isinstance(event, Missed) or message.sequence >= expected
                    expected = events.next_sequence(message, expected)
                    if event is not None and is_wanted:
                        yield event
                    if events.ends_stream(event):
                        return
                return
            except grpc.aio.AioRpcError as status:
                error = from_status(status)
                if error.execution_id:
                    # How the execution ended, and not how the call did.
                    raise error from status
                failures += 1
                await self._calls.wait(failures, error, deadline)
            finally:
                call.cancel()

    async def cancel(
        self, execution_id: str, *, timeout: float | None = None, traceparent: str | None = None
    ) -> wire.Execution:
        """Ends an execution; one that has ended is left as it is. Answers where it stood."""
        request = wire.CancelExecutionRequest(execution_id=execution_id)
        deadline = _deadline(timeout, self._timeouts.call)
        return await self._calls.unary(self._calls.stub.CancelExecution, request, deadline, traceparent)

    async def get_execution(
        self, execution_id: str, *, timeout: float | None = None, traceparent: str | None = None
    ) -> wire.Execution:
        """A running or lately finished execution."""
        request = wire.GetExecutionRequest(execution_id=execution_id)
        deadline = _deadline(timeout, self._timeouts.call)
        return await self._calls.unary(self._calls.stub.GetExecution, request, deadline, traceparent)

    async def get_agent(
        self, agent_id: str, version: str = "", *, timeout: float | None = None, traceparent: str | None = None
    ) -> wire.Agent:
        """An agent: its active version, or the one asked for."""
        request = wire.GetAgentRequest(agent_id=agent_id, version=version)
        deadline = _deadline(timeout, self._timeouts.call)
        return await self._calls.unary(self._calls.stub.GetAgent, request, deadline, traceparent)

    async def list_agents(self, *, timeout: float | None = None, traceparent: str | None = None) -> list[wire.Agent]:
        """The caller's agents, all versions, in order of id and version, without their manifests."""
        deadline = _deadline(timeout, self._timeouts.call)
        request = wire.ListAgentsRequest(page_size=PAGE_SIZE)
        agents: list[wire.Agent] = []
        while True:
            page = await self._calls.unary(self._calls.stub.ListAgents, request, deadline, traceparent)
            agents.extend(page.agents)
            if not page.next_page_token:
                return agents
            request.page_token = page.next_page_token

    async def unload_agent(
        self, agent_id: str, version: str = "", *, timeout: float | None = None, traceparent: str | None = None
    ) -> list[str]:
        """Removes an agent, or that version of it, and answers the versions that were removed.

        Executions that are running finish.
        """
        request = wire.UnloadAgentRequest(agent_id=agent_id, version=version)
        deadline = _deadline(timeout, self._timeouts.call)
        return list((await self._calls.unary(self._calls.stub.UnloadAgent, request, deadline, traceparent)).versions)

    async def activate_version(
        self, agent_id: str, version: str, *, timeout: float | None = None, traceparent: str | None = None
    ) -> wire.Agent:
        """Makes a loaded version the active one: rolls back, or forward."""
        request = wire.ActivateVersionRequest(agent_id=agent_id, version=version)
        deadline = _deadline(timeout, self._timeouts.call)
        return (await self._calls.unary(self._calls.stub.ActivateVersion, request, deadline, traceparent)).agent

    async def _execute(
        self, request: wire.ExecuteAgentRequest, deadline: Deadline, traceparent: str | None
    ) -> wire.ExecuteAgentResponse:
        attempts = _Attempts(request.execution_id)
        try:
            return await self._calls.attempt(
                lambda timeout, metadata: self._calls.stub.ExecuteAgent(request, timeout=timeout, metadata=metadata),
                deadline,
                traceparent,
                attempts.is_final,
            )
        except InvalidRequestError as error:
            raise await self._explained(attempts, error, deadline, traceparent) from error

    async def _explained(
        self, attempts: _Attempts, error: MentatError, deadline: Deadline, traceparent: str | None
    ) -> MentatError:
        """The error to be told: where an id was refused because an attempt before has begun with it, that one's."""
        if attempts.lost is None or not isinstance(error, InvalidRequestError):
            return error
        return attempts.lost if await self._has_begun(attempts.execution_id, deadline, traceparent) else error

    async def _has_begun(self, execution_id: str, deadline: Deadline, traceparent: str | None) -> bool:
        request = wire.GetExecutionRequest(execution_id=execution_id)
        try:
            await self._calls.unary(self._calls.stub.GetExecution, request, deadline, traceparent)
        except ExecutionNotFoundError:
            return False
        return True


class _Attempts:
    """The attempts at one execution. An id serves once: what one attempt has begun, no other begins again."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.lost: UnavailableError | None = None

    def is_final(self, error: MentatError) -> bool:
        if not self.execution_id:
            return False
        if error.execution_id or (self.lost and isinstance(error, InvalidRequestError)):
            return True
        if isinstance(error, UnavailableError):
            self.lost = error
        return False


def _deadline(timeout: float | None, usual: float) -> Deadline:
    return Deadline(usual if timeout is None else timeout)
