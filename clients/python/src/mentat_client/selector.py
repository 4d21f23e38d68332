"""The selector: executes the nodes of a flow, on agents that it loads where they are missing.

Which runtime executes an agent, `wasm` or `container`, is decided by the server from the agent's manifest; a node is
executed by the same call either way.

Invariant: an agent that many nodes miss at the same time is loaded once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from mentat_client.client import WasmRuntimeClient, new_execution_id
from mentat_client.errors import AgentNotFoundError, MentatError
from mentat_client.events import End

if TYPE_CHECKING:
    from mentat_client.agents import AgentSource
    from mentat_client.events import Event
    from mentat_client.gen import runtime_pb2 as wire

CANCEL_SECONDS = 5.0
"""How long it may take to tell the server that nobody follows an execution any more."""


class Node(Protocol):
    """What of a flow's node is needed to execute it; a node of an orchestrator's own will do."""

    @property
    def agent_id(self) -> str:
        """The agent."""


@dataclass(frozen=True)
class AgentNode:
    """A node of a flow.

    Without a `version` it is the agent's active one; `sandbox_config` takes limits and powers away;
    `timeout` is in seconds, for loading and executing each.
    """

    agent_id: str
    version: str = ""
    sandbox_config: wire.SandboxConfig | None = None
    timeout: float | None = None


class RuntimeSelector:
    """Executes nodes by a client, and loads from a source what the server does not have."""

    def __init__(self, client: WasmRuntimeClient, source: AgentSource) -> None:
        self._client = client
        self._source = source
        self._loading: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def execute_node(
        self,
        node: Node | str,
        input: bytes = b"",  # noqa: A002 - as in `WasmRuntimeClient.execute_agent`
        *,
        include_logs: bool = False,
        traceparent: str | None = None,
    ) -> wire.ExecuteAgentResponse:
        """Executes the node's agent on an input, and answers what it wrote and its exit code.

        `AgentNotFoundError` where neither the server nor the source has the agent.
        """
        asked = _asked(node)

        async def execute() -> wire.ExecuteAgentResponse:
            return await self._client.execute_agent(
                asked.agent_id,
                input,
                version=asked.version,
                sandbox_config=asked.sandbox_config,
                include_logs=include_logs,
                timeout=asked.timeout,
                traceparent=traceparent,
            )

        try:
            return await execute()
        except AgentNotFoundError as error:
            await self._load(asked, error, traceparent)
        return await execute()

    async def stream_node(
        self,
        node: Node | str,
        input: bytes = b"",  # noqa: A002 - as in `execute_node`
        *,
        execution_id: str = "",
        traceparent: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Executes the node's agent and tells its events as they come, through lost connections; the last is an `End`.

        Leaving the loop ends the execution (at once with `contextlib.aclosing`). An `execution_id` of the caller's own
        making (`new_execution_id`) is for who wants to know it before the end.
        """
        asked = _asked(node)
        execution_id = execution_id or new_execution_id()

        async def start() -> None:
            await self._client.start_agent(
                asked.agent_id,
                input,
                version=asked.version,
                sandbox_config=asked.sandbox_config,
                execution_id=execution_id,
                traceparent=traceparent,
            )

        ended = False
        try:
            try:
                await start()
            except AgentNotFoundError as error:
                await self._load(asked, error, traceparent)
                await start()
            events = self._client.stream_events(execution_id, timeout=asked.timeout, traceparent=traceparent)
            async with contextlib.aclosing(events):
                async for event in events:
                    ended = isinstance(event, End)
                    yield event
        except MentatError as error:
            ended = error.execution_id == execution_id
            raise
        finally:
            if not ended:
                await self._give_up(execution_id)

    async def ensure_loaded(self, node: Node | str, *, traceparent: str | None = None) -> None:
        """Loads the node's agent, unless the server has it."""
        asked = _asked(node)
        missing = AgentNotFoundError(f"agent `{asked.agent_id}` is not loaded, and the source does not have it")
        await self._load(asked, missing, traceparent)

    async def _load(self, asked: AgentNode, missing: AgentNotFoundError, traceparent: str | None) -> None:
        key = (asked.agent_id, asked.version)
        lock = self._loading.get(key)
        if lock is None:
            lock = self._loading[key] = asyncio.Lock()
        async with lock:
            # Perhaps another node has loaded it meanwhile.
            if await self._client.is_loaded(asked.agent_id, asked.version, traceparent=traceparent):
                return
            package = await self._source.fetch(asked.agent_id, asked.version)
            if package is None:
                raise missing
            await self._client.load_agent(
                package.agent_id,
                package.wasm_bytes,
                package.manifest,
                timeout=asked.timeout,
                traceparent=traceparent,
            )

    async def _give_up(self, execution_id: str) -> None:
        # The error that leads here is the one to be told; an execution that cannot be ended ends by its own limits.
        with contextlib.suppress(MentatError):
            await self._client.cancel(execution_id, timeout=CANCEL_SECONDS)


def _asked(node: Node | str) -> AgentNode:
    if isinstance(node, str):
        return AgentNode(node)
    if isinstance(node, AgentNode):
        return node
    return AgentNode(node.agent_id, getattr(node, "version", None) or "")
