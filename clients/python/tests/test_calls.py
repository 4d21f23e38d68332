"""The calls, one by one, against a started server."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest
from conftest import COUNT, ECHO, LONG, LOOP, Proxy, Server, Servers, guest, manifest

from mentat_client import (
    AgentNotFoundError,
    End,
    ExecutionCancelledError,
    ExecutionState,
    InvalidRequestError,
    Log,
    RetryPolicy,
    SandboxConfig,
    StreamData,
    Timeouts,
    WasmRuntimeClient,
    new_execution_id,
)


async def test_an_agent_is_loaded_executed_listed_and_unloaded(client: WasmRuntimeClient) -> None:
    assert not await client.is_loaded("calls.echo")
    loaded = await client.load_agent("calls.echo", ECHO, manifest("calls.echo"))
    assert (loaded.agent_id, loaded.version) == ("calls.echo", "1.0.0")
    assert loaded.module_hash.startswith("sha256:")
    assert await client.is_loaded("calls.echo")
    assert await client.is_loaded("calls.echo", "1.0.0")
    assert not await client.is_loaded("calls.echo", "2.0.0")

    answer = await client.execute_agent("calls.echo", b"from an orchestrator")
    assert (answer.output, answer.exit_code, answer.version) == (b"from an orchestrator", 0, "1.0.0")
    assert answer.metrics.fuel_consumed > 0
    record = await client.get_execution(answer.execution_id)
    assert record.state == ExecutionState.EXECUTION_STATE_FINISHED

    agent = await client.get_agent("calls.echo")
    assert agent.active
    assert "id: calls.echo" in agent.manifest
    assert ("calls.echo", "1.0.0") in [(agent.agent_id, agent.version) for agent in await client.list_agents()]

    assert await client.unload_agent("calls.echo") == ["1.0.0"]
    assert not await client.is_loaded("calls.echo")
    with pytest.raises(AgentNotFoundError):
        await client.execute_agent("calls.echo")


async def test_a_version_is_executed_by_its_number_and_activated(client: WasmRuntimeClient) -> None:
    for version in ("1.0.0", "2.0.0"):
        await client.load_agent("calls.versions", ECHO, manifest("calls.versions", version))
    assert (await client.execute_agent("calls.versions")).version == "2.0.0"
    assert (await client.execute_agent("calls.versions", version="1.0.0")).version == "1.0.0"
    assert (await client.activate_version("calls.versions", "1.0.0")).active
    assert (await client.execute_agent("calls.versions")).version == "1.0.0"


async def test_other_content_of_a_version_is_refused_unless_it_replaces(client: WasmRuntimeClient) -> None:
    await client.load_agent("calls.same", ECHO, manifest("calls.same"))
    await client.load_agent("calls.same", ECHO, manifest("calls.same"))
    with pytest.raises(InvalidRequestError):
        await client.load_agent("calls.same", COUNT, manifest("calls.same"))
    await client.load_agent("calls.same", COUNT, manifest("calls.same"), replace=True)


async def test_a_list_of_agents_has_all_pages(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mentat_client.client.PAGE_SIZE", 2)
    async with WasmRuntimeClient(servers.start().grpc) as client:
        names = [f"page.{number}" for number in range(5)]
        for name in names:
            await client.load_agent(name, ECHO, manifest(name))
        assert [agent.agent_id for agent in await client.list_agents()] == names


async def test_the_log_comes_with_the_answer_where_it_is_asked_for(client: WasmRuntimeClient) -> None:
    await client.load_agent("calls.stderr", guest("wasi/command-writes-to-stderr.wat"), manifest("calls.stderr"))
    assert len((await client.execute_agent("calls.stderr", include_logs=True)).logs) > 0
    assert len((await client.execute_agent("calls.stderr")).logs) == 0
    events = [event async for event in client.execute_agent_stream("calls.stderr")]
    assert isinstance(events[0], Log)
    assert events[0].timestamp is not None
    assert isinstance(events[-1], End)


async def test_an_exit_code_is_no_error(client: WasmRuntimeClient) -> None:
    await client.load_agent("calls.exit", guest("wasi/command-exits-3.wat"), manifest("calls.exit"))
    assert (await client.execute_agent("calls.exit")).exit_code == 3


async def test_large_modules_inputs_and_outputs_go_through(servers: Servers) -> None:
    # A custom section that nobody reads: 24 MB.
    size = 24 << 20
    content = b"\x03pad" + bytes(size)
    section = b"\x00" + _leb128(len(content)) + content
    module = ECHO + section
    server = servers.start("limits.ceiling.output=64MB")
    async with WasmRuntimeClient(server.grpc) as client:
        wasm = "  timeout_ms: 60000\n  max_output: 64MB\n  memory: { maximum: 128 }\n"
        await client.load_agent("calls.large", module, manifest("calls.large", wasm=wasm))
        assert (await client.get_agent("calls.large")).module_bytes == len(module)
        given = bytes(range(256)) * (40 << 12)
        assert (await client.execute_agent("calls.large", given)).output == given


def _leb128(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


@pytest.mark.parametrize("pauses", [(0.05, 1.0), (0.0, 1.0)])
async def test_what_the_server_says_of_a_header_is_told(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, pauses: tuple[float, float]
) -> None:
    monkeypatch.setattr("mentat_client.upload.PAUSES_SECONDS", pauses)
    server = servers.start("compile.max_module=1MB")
    async with WasmRuntimeClient(server.grpc, retry=RetryPolicy.never()) as client:
        for _ in range(20):
            with pytest.raises(InvalidRequestError, match="limit"):
                await client.load_agent("calls.over", ECHO + bytes(8 << 20), manifest("calls.over"))


async def test_a_module_whose_connection_is_cut_is_sent_again(shared: Server) -> None:
    module = ECHO + b"\x00" + _leb128((4 << 20) + 4) + b"\x03pad" + bytes(4 << 20)
    quick = RetryPolicy(attempts=20, first_delay=0.01)
    for seed in range(3):
        async with Proxy(shared.port, cuts=4, seed=seed) as proxy, WasmRuntimeClient(proxy.address, retry=quick) as cut:
            proxy.room = (60, 200)
            agent = f"calls.cut{seed}"
            assert (await cut.load_agent(agent, module, manifest(agent))).agent_id == agent
            assert await cut.is_loaded(agent)
            assert proxy.cut >= 3


async def test_an_execution_is_cancelled_by_its_id(client: WasmRuntimeClient) -> None:
    await client.load_agent("calls.loop", LOOP, manifest("calls.loop", wasm=LONG))
    execution_id = new_execution_id()
    running = asyncio.create_task(client.execute_agent("calls.loop", execution_id=execution_id))
    await _until_it_runs(client, execution_id)
    await client.cancel(execution_id)
    with pytest.raises(ExecutionCancelledError) as error:
        await running
    assert error.value.execution_id == execution_id


async def test_cancelling_the_call_ends_the_execution(client: WasmRuntimeClient) -> None:
    await client.load_agent("calls.left", LOOP, manifest("calls.left", wasm=LONG))
    execution_id = new_execution_id()
    running = asyncio.create_task(client.execute_agent("calls.left", execution_id=execution_id))
    await _until_it_runs(client, execution_id)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await _until_it_failed(client, execution_id)


async def test_leaving_the_loop_ends_the_execution(client: WasmRuntimeClient) -> None:
    await client.load_agent("calls.break", COUNT, manifest("calls.break", wasm=LONG))
    execution_id = new_execution_id()
    events = client.execute_agent_stream("calls.break", execution_id=execution_id)
    async for event in events:
        if isinstance(event, StreamData) and event.index == 3:
            break
    await events.aclose()
    await _until_it_failed(client, execution_id)


async def test_limits_are_narrowed_by_a_sandbox_config(client: WasmRuntimeClient) -> None:
    await client.load_agent("calls.narrow", LOOP, manifest("calls.narrow", wasm=LONG))
    began = time.monotonic()
    with pytest.raises(Exception, match="TIMEOUT"):
        await client.execute_agent("calls.narrow", sandbox_config=SandboxConfig(timeout_ms=100))
    assert time.monotonic() - began < 20


async def test_a_client_can_be_closed_and_used_again(shared: Server) -> None:
    client = WasmRuntimeClient(shared.grpc, retry=RetryPolicy.never(), timeouts=Timeouts(call=20))
    assert not await client.is_loaded("calls.nothing")
    await client.close()
    assert not await client.is_loaded("calls.nothing")
    await client.close()


def test_a_client_serves_one_event_loop_after_another(shared: Server) -> None:
    client = WasmRuntimeClient(shared.grpc)
    for _ in range(2):
        assert asyncio.run(client.is_loaded("calls.nothing")) is False

    async def close() -> None:
        await client.is_loaded("calls.nothing")
        await client.close()

    asyncio.run(close())
    assert asyncio.run(client.is_loaded("calls.nothing")) is False
    # Of a loop that is over there is nothing to close.
    asyncio.run(client.close())


async def test_a_client_of_a_loop_that_runs_is_no_other_loops(client: WasmRuntimeClient) -> None:
    assert await client.is_loaded("calls.nothing") is False

    async def ask() -> bool:
        return await client.is_loaded("calls.nothing")

    with pytest.raises(RuntimeError, match="one for each loop"):
        await asyncio.to_thread(lambda: asyncio.run(ask()))
    assert await client.is_loaded("calls.nothing") is False


def test_ids_of_executions_are_uuids_of_version_7_in_the_order_of_time() -> None:
    first = new_execution_id()
    time.sleep(0.002)
    second = new_execution_id()
    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    assert first < second


async def _until_it_runs(client: WasmRuntimeClient, execution_id: str) -> None:
    for _ in range(200):
        try:
            record = await client.get_execution(execution_id)
        except Exception:
            await asyncio.sleep(0.05)
            continue
        assert record.state == ExecutionState.EXECUTION_STATE_RUNNING
        return
    pytest.fail("the execution did not begin")


async def _until_it_failed(client: WasmRuntimeClient, execution_id: str) -> None:
    for _ in range(200):
        record = await client.get_execution(execution_id)
        if record.state == ExecutionState.EXECUTION_STATE_FAILED:
            assert record.error_reason == "CANCELLED"
            return
        await asyncio.sleep(0.05)
    pytest.fail("the execution did not end")
