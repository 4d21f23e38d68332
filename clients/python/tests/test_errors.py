"""Typed errors: each row that can be provoked, by a started server; the others, by a service that tells them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest
from conftest import ECHO, HOARD, LONG, LOOP, RECURSE, ROOT, Servers, guest, manifest, wat
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from mentat_client import (
    ERRORS,
    AgentNotFoundError,
    DeadlineExceededError,
    ExecutionNotFoundError,
    ExecutionTimeoutError,
    FuelExhaustedError,
    InvalidManifestError,
    InvalidModuleError,
    InvalidRequestError,
    MemoryLimitError,
    MentatError,
    OutputTooLargeError,
    OverloadedError,
    PolicyDeniedError,
    RetryPolicy,
    SandboxConfig,
    SecurityViolationError,
    StackOverflowError,
    StreamNotFoundError,
    TrapError,
    UnavailableError,
    WasmRuntimeClient,
    new_execution_id,
)

IMPORTS_NOTHING_KNOWN = wat("""(module (import "acme" "conjure" (func)) (memory (export "memory") 1)
  (func (export "process") (result i32) (i32.const 0)))""")

ASKS = wat("""(module
  (import "mentat" "request_capability" (func $ask (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "filesystem:read:/secrets")
  (func (export "process") (result i32) (call $ask (i32.const 0) (i32.const 24))))""")


def test_there_is_a_class_for_each_row_of_the_error_page() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))
    assert rows == set(ERRORS)


async def refused(call: object, kind: type[MentatError]) -> MentatError:
    with pytest.raises(kind) as error:
        await call  # type: ignore[misc]
    assert type(error.value) is kind
    assert error.value.reason == kind.row
    assert error.value.message
    assert kind.row in str(error.value)
    return error.value


async def test_what_cannot_be_loaded_says_why(client: WasmRuntimeClient) -> None:
    error = await refused(client.load_agent("errors.a", ECHO, "id: errors.a\nverzion: 1\n"), InvalidManifestError)
    assert "version" in error.details["problems"]
    error = await refused(
        client.load_agent("errors.a", IMPORTS_NOTHING_KNOWN, manifest("errors.a")), InvalidModuleError
    )
    assert "conjure" in error.details["problems"]
    await refused(client.load_agent("errors.b", ECHO, manifest("errors.a")), InvalidRequestError)


async def test_what_is_not_there_is_told_apart(client: WasmRuntimeClient) -> None:
    await refused(client.execute_agent("errors.none"), AgentNotFoundError)
    await refused(client.get_agent("errors.none"), AgentNotFoundError)
    await refused(client.get_execution(new_execution_id()), ExecutionNotFoundError)
    await refused(client.cancel(new_execution_id()), ExecutionNotFoundError)
    await refused(anext(client.stream_events(new_execution_id())), StreamNotFoundError)
    await refused(client.execute_agent("not an id"), InvalidRequestError)


@pytest.mark.parametrize(
    ("name", "module", "limits", "kind"),
    [
        ("fuel", LOOP, SandboxConfig(fuel=1_000_000), FuelExhaustedError),
        ("memory", HOARD, SandboxConfig(memory_bytes=4 << 20), MemoryLimitError),
        ("output", ECHO, SandboxConfig(output_bytes=3), OutputTooLargeError),
        ("stack", RECURSE, None, StackOverflowError),
        ("time", LOOP, SandboxConfig(timeout_ms=100), ExecutionTimeoutError),
        ("trap", guest("traps/unreachable-in-an-inner-function.wat"), None, TrapError),
    ],
)
async def test_each_limit_has_an_error_of_its_own(
    client: WasmRuntimeClient, name: str, module: bytes, limits: SandboxConfig | None, kind: type[MentatError]
) -> None:
    agent = f"errors.{name}"
    await client.load_agent(agent, module, manifest(agent, wasm=LONG))
    error = await refused(client.execute_agent(agent, b"input", sandbox_config=limits), kind)
    record = await client.get_execution(error.execution_id)
    assert record.error_reason == kind.row
    streamed = client.execute_agent_stream(agent, b"input", sandbox_config=limits)

    async def last() -> None:
        async for _ in streamed:
            pass

    await refused(last(), kind)


async def test_the_deadline_of_a_call_ends_its_execution(client: WasmRuntimeClient) -> None:
    await client.load_agent("errors.deadline", LOOP, manifest("errors.deadline", wasm=LONG))
    execution_id = new_execution_id()
    with pytest.raises(DeadlineExceededError):
        await client.execute_agent("errors.deadline", execution_id=execution_id, timeout=0.5)
    for _ in range(100):
        if (await client.get_execution(execution_id)).error_reason:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the execution goes on")


async def test_a_violation_and_a_denial_are_told_apart(servers: Servers) -> None:
    server = servers.start("security.on_violation=terminate")
    async with WasmRuntimeClient(server.grpc, retry=RetryPolicy.never()) as client:
        await client.load_agent("errors.asks", ASKS, manifest("errors.asks"))
        await refused(client.execute_agent("errors.asks"), SecurityViolationError)


async def test_an_input_that_nobody_permits_is_denied(servers: Servers) -> None:
    async with WasmRuntimeClient(servers.start().grpc, retry=RetryPolicy.never()) as client:
        text = manifest("errors.media", wasm="  capabilities: [ 'media:read:pictures' ]\n")
        text += "inputs:\n  - { name: picture, type: image }\n"
        await client.load_agent("errors.media", ECHO, text)
        await refused(client.execute_agent("errors.media", b"media://pictures/a.png"), PolicyDeniedError)


async def test_a_full_server_is_overloaded_and_says_when_to_come_back(servers: Servers) -> None:
    server = servers.start("engine.max_executions=1", "pool.queue_length=0")
    async with WasmRuntimeClient(server.grpc, retry=RetryPolicy.never()) as client:
        await client.load_agent("errors.loop", LOOP, manifest("errors.loop", wasm=LONG))
        running = await client.start_agent("errors.loop")
        await asyncio.sleep(0.3)
        error = await refused(client.execute_agent("errors.loop"), OverloadedError)
        assert isinstance(error, UnavailableError)
        assert error.retry_after is not None
        assert error.retry_after > timedelta(0)
        await client.cancel(running)


class Telling(grpc.GenericRpcHandler):
    """A service that ends every call with one status, and counts them."""

    def __init__(
        self, code: grpc.StatusCode, reason: str, retry_after: float | None = None, refusals: int = 99
    ) -> None:
        self.code = code
        self.calls = 0
        self._refusals = refusals
        info = error_details_pb2.ErrorInfo(reason=reason, domain="mentat.runtime", metadata={"fact": "so it is"})
        details = [info] if reason else []
        self._status = status_pb2.Status(code=code.value[0], message="as it is told")
        for detail in details:
            self._status.details.append(_packed(detail))
        if retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromTimedelta(timedelta(seconds=retry_after))
            self._status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:  # noqa: ARG002
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self.calls += 1
        if self.calls <= self._refusals:
            context.set_trailing_metadata((("grpc-status-details-bin", self._status.SerializeToString()),))
            await context.abort(self.code, "as it is told")
        return b""


def _packed(message: object) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)  # type: ignore[arg-type]
    return packed


@asynccontextmanager
async def telling(service: Telling, retry: RetryPolicy) -> AsyncGenerator[WasmRuntimeClient, None]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with WasmRuntimeClient(f"127.0.0.1:{port}", retry=retry) as client:
            yield client
    finally:
        await server.stop(None)


@pytest.mark.parametrize("reason", sorted(ERRORS))
async def test_every_row_is_told_by_its_class_and_only_unavailable_is_tried_again(reason: str) -> None:
    page = (ROOT / "docs/errors.md").read_text()
    row = re.search(rf"^\| `{reason}` \| (\w+) \|", page, re.MULTILINE)
    assert row is not None
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", row.group(1)).upper()
    service = Telling(grpc.StatusCode[name], reason)
    async with telling(service, RetryPolicy(attempts=3, first_delay=0.01)) as client:
        error = await refused(client.is_loaded("a.b"), ERRORS[reason])
    assert error.details == {"fact": "so it is"}
    assert error.code == grpc.StatusCode[name]
    assert service.calls == (3 if name == "UNAVAILABLE" else 1)


async def test_a_row_that_is_newer_than_the_client_is_told_with_its_reason() -> None:
    service = Telling(grpc.StatusCode.UNAVAILABLE, "ENGINE_ASLEEP")
    async with telling(service, RetryPolicy.never()) as client:
        with pytest.raises(UnavailableError) as error:
            await client.is_loaded("a.b")
    assert error.value.reason == "ENGINE_ASLEEP"


async def test_a_status_without_details_is_told_by_its_code() -> None:
    service = Telling(grpc.StatusCode.UNIMPLEMENTED, "")
    async with telling(service, RetryPolicy()) as client:
        with pytest.raises(MentatError) as error:
            await client.is_loaded("a.b")
    assert (error.value.reason, error.value.code) == ("", grpc.StatusCode.UNIMPLEMENTED)
    assert str(error.value).startswith("UNIMPLEMENTED")
    assert service.calls == 1


async def test_what_the_server_asks_to_wait_is_waited() -> None:
    service = Telling(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", retry_after=0.4, refusals=2)
    async with telling(service, RetryPolicy(first_delay=0.01)) as client:
        began = asyncio.get_running_loop().time()
        assert not await client.is_loaded("a.b")
        took = asyncio.get_running_loop().time() - began
    assert service.calls == 3
    assert 0.8 <= took < 5


async def test_a_wait_beyond_the_deadline_is_not_waited() -> None:
    service = Telling(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", retry_after=60)
    async with telling(service, RetryPolicy()) as client:
        began = asyncio.get_running_loop().time()
        await refused(client.is_loaded("a.b", timeout=10), OverloadedError)
        assert asyncio.get_running_loop().time() - began < 5
