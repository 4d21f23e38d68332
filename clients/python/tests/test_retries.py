"""Calls that are made again, and those that are not: servers that start late, connections that are cut, deadlines."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from datetime import timedelta

import pytest
from conftest import COUNT, ECHO, LONG, LOOP, Proxy, Server, Servers, manifest

from mentat_client import (
    DeadlineExceededError,
    ExecutionState,
    InvalidRequestError,
    OverloadedError,
    RetryPolicy,
    UnavailableError,
    WasmRuntimeClient,
    new_execution_id,
)
from mentat_client.retry import Deadline


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_a_server_that_starts_late_is_waited_for(servers: Servers) -> None:
    port = free_port()
    patient = RetryPolicy(attempts=100, first_delay=0.05, longest_delay=0.3)
    async with WasmRuntimeClient(f"127.0.0.1:{port}", retry=patient) as client:
        loading = asyncio.create_task(client.load_agent("late.echo", ECHO, manifest("late.echo"), timeout=60))
        await asyncio.sleep(0.5)
        assert not loading.done()
        await asyncio.to_thread(servers.start, port=port)
        assert (await loading).agent_id == "late.echo"


async def test_where_nobody_answers_it_is_told_after_the_attempts() -> None:
    async with WasmRuntimeClient(f"127.0.0.1:{free_port()}", retry=RetryPolicy(attempts=3, first_delay=0.01)) as client:
        with pytest.raises(UnavailableError) as error:
            await client.is_loaded("a.b")
        assert error.value.reason == ""


async def test_attempts_end_with_the_deadline() -> None:
    endless = RetryPolicy(attempts=10_000, first_delay=0.05, longest_delay=0.1)
    async with WasmRuntimeClient(f"127.0.0.1:{free_port()}", retry=endless) as client:
        began = time.monotonic()
        with pytest.raises((UnavailableError, DeadlineExceededError)):
            await client.is_loaded("a.b", timeout=1)
        assert time.monotonic() - began < 10


async def test_a_server_that_accepts_and_says_nothing_is_left_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with WasmRuntimeClient(f"127.0.0.1:{silent.getsockname()[1]}") as client:
            began = time.monotonic()
            with pytest.raises((UnavailableError, DeadlineExceededError)):
                await client.is_loaded("a.b", timeout=1)
            assert time.monotonic() - began < 10


async def test_an_execution_whose_connection_is_cut_is_made_again(shared: Server, client: WasmRuntimeClient) -> None:
    await client.load_agent("retries.large", ECHO, manifest("retries.large"))
    given = bytes(100_000)
    quick = RetryPolicy(attempts=20, first_delay=0.01)
    async with Proxy(shared.port, cuts=4, seed=1) as proxy, WasmRuntimeClient(proxy.address, retry=quick) as cut:
        assert (await cut.execute_agent("retries.large", given)).output == given
        assert proxy.cut == 4


async def test_an_execution_with_an_id_is_begun_once(shared: Server, client: WasmRuntimeClient) -> None:
    await client.load_agent("retries.once", ECHO, manifest("retries.once"))
    given = bytes(100_000)
    execution_id = new_execution_id()
    quick = RetryPolicy(attempts=20, first_delay=0.01)
    async with Proxy(shared.port, cuts=4, seed=1) as proxy, WasmRuntimeClient(proxy.address, retry=quick) as cut:
        with pytest.raises(UnavailableError):
            await cut.execute_agent("retries.once", given, execution_id=execution_id)
    assert (await client.get_execution(execution_id)).state == ExecutionState.EXECUTION_STATE_FINISHED
    # Of one that was never lost, it is the server that says what is wrong.
    with pytest.raises(InvalidRequestError):
        await client.execute_agent("retries.once", execution_id=execution_id)


async def test_a_streamed_execution_with_an_id_is_begun_once(servers: Servers) -> None:
    server = servers.start("engine.max_executions=1", "pool.queue_length=0")
    async with WasmRuntimeClient(server.grpc) as client:
        await client.load_agent("retries.loop", LOOP, manifest("retries.loop", wasm=LONG))
        running = await client.start_agent("retries.loop")
        await asyncio.sleep(0.3)
        with pytest.raises(OverloadedError):
            [event async for event in client.execute_agent_stream("retries.loop", execution_id=new_execution_id())]
        await client.cancel(running)


async def test_starting_is_done_once_though_its_answer_is_lost(servers: Servers) -> None:
    server = servers.start()
    async with WasmRuntimeClient(server.grpc) as client:
        await client.load_agent("retries.start", COUNT, manifest("retries.start", wasm=LONG))
    quick = RetryPolicy(attempts=30, first_delay=0.01)
    begun = set()
    for seed in range(5):
        async with Proxy(server.port, cuts=2, seed=seed) as proxy:
            proxy.room = (60, 160)
            async with WasmRuntimeClient(proxy.address, retry=quick) as cut:
                begun.add(await cut.start_agent("retries.start"))
    async with WasmRuntimeClient(server.grpc) as client:
        for execution_id in begun:
            events = [event async for event in client.stream_events(execution_id)]
            assert len(events) == 203
    assert len(begun) == 5


async def test_an_overloaded_server_is_asked_again_until_there_is_room(servers: Servers) -> None:
    server = servers.start("engine.max_executions=1", "pool.queue_length=0")
    async with WasmRuntimeClient(server.grpc) as client:
        await client.load_agent("retries.loop", LOOP, manifest("retries.loop", wasm=LONG))
        await client.load_agent("retries.echo", ECHO, manifest("retries.echo"))
        running = await client.start_agent("retries.loop")
        await asyncio.sleep(0.3)
        # With an id it is that execution which was refused, and it stays so.
        with pytest.raises(OverloadedError):
            await client.execute_agent("retries.echo", execution_id=new_execution_id())
        waiting = asyncio.create_task(client.execute_agent("retries.echo", b"patience"))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await client.cancel(running)
        assert (await waiting).output == b"patience"


def test_waits_double_up_to_the_longest_and_half_is_left_to_chance() -> None:
    policy = RetryPolicy(attempts=10, first_delay=1, longest_delay=4)
    error = UnavailableError("away")
    for failures, wanted in [(1, 1), (2, 2), (3, 4), (9, 4)]:
        waits = {policy.delay(failures, error) for _ in range(50)}
        assert len(waits) > 1
        assert all(wait is not None and wanted / 2 <= wait <= wanted for wait in waits)
    assert policy.delay(10, error) is None
    told = policy.delay(1, UnavailableError("away", retry_after=timedelta(seconds=30)))
    assert told is not None
    assert 30 <= told <= 30.5


def test_policies_and_timeouts_that_make_no_sense_are_refused() -> None:
    for wrong in ({"attempts": 0}, {"first_delay": 0.0}, {"first_delay": 9.0}):
        with pytest.raises(ValueError, match="`"):
            RetryPolicy(**wrong)
    for seconds in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            Deadline(seconds)
    assert Deadline(math.inf).remaining() is None


async def test_a_call_without_any_time_is_refused() -> None:
    async with WasmRuntimeClient("127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="timeout"):
            await client.is_loaded("a.b", timeout=0)
