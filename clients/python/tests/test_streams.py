"""Following executions: in order, from the middle, and through connections that are cut."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest
import pytest_asyncio
from conftest import COUNT, LONG, LOOP, RECURSE, Proxy, Server, Servers, manifest

from mentat_client import (
    DeadlineExceededError,
    End,
    Event,
    Missed,
    Published,
    RetryPolicy,
    StackOverflowError,
    StreamData,
    StreamEnd,
    StreamNotFoundError,
    StreamStart,
    UnavailableError,
    WasmRuntimeClient,
    new_execution_id,
)

CHUNKS = 200
QUICK = RetryPolicy(attempts=20, first_delay=0.01, longest_delay=0.2)


@pytest_asyncio.fixture
async def counting(client: WasmRuntimeClient) -> str:
    """An agent that counts aloud."""
    await client.load_agent("streams.count", COUNT, manifest("streams.count", wasm=LONG))
    return "streams.count"


def check(events: list[Event], begin: int = 0) -> None:
    """All events of the counting agent from that number on, each once and in order, and the end behind them."""
    assert [event.sequence for event in events] == list(range(begin, CHUNKS + 3))
    chunks = [event for event in events if isinstance(event, StreamData)]
    numbers = [int.from_bytes(chunk.chunk[:4], "little") for chunk in chunks]
    assert numbers == [chunk.index for chunk in chunks] == list(range(max(begin - 1, 0), CHUNKS))
    assert isinstance(events[-1], End)
    assert events[-1].response.output == b"numbers"
    end = events[-2]
    assert isinstance(end, StreamEnd)
    assert (end.stream, end.total_chunks, end.whole) == ("numbers", CHUNKS, True)


async def test_a_detached_execution_is_followed_from_its_beginning_and_from_its_middle(
    client: WasmRuntimeClient, counting: str
) -> None:
    execution_id = await client.start_agent(counting)
    whole = [event async for event in client.stream_events(execution_id, 0)]
    assert isinstance(whole[0], StreamStart)
    check(whole)
    middle = [event async for event in client.stream_events(execution_id, 101)]
    check(middle, begin=101)
    assert middle == whole[101:]
    # From behind its end nothing is left.
    assert [event async for event in client.stream_events(execution_id, CHUNKS + 3)] == []


async def test_two_followers_are_told_the_same_while_it_runs(client: WasmRuntimeClient, counting: str) -> None:
    execution_id = await client.start_agent(counting)

    async def follow(begin: int) -> list[Event]:
        return [event async for event in client.stream_events(execution_id, begin)]

    first, second = await asyncio.gather(follow(0), follow(50))
    check(first)
    check(second, begin=50)


async def test_an_execution_tells_its_events_to_who_asked_for_it(client: WasmRuntimeClient, counting: str) -> None:
    check([event async for event in client.execute_agent_stream(counting)])


@pytest.mark.parametrize("seed", range(3))
async def test_a_stream_goes_on_where_its_connection_was_cut(
    shared: Server, client: WasmRuntimeClient, counting: str, seed: int
) -> None:
    execution_id = await client.start_agent(counting)
    async with Proxy(shared.port, cuts=8, seed=seed) as proxy, WasmRuntimeClient(proxy.address, retry=QUICK) as cut:
        check([event async for event in cut.stream_events(execution_id)])
        assert proxy.cut >= 3


async def test_a_stream_that_is_cut_is_told_to_who_does_not_try_again(
    shared: Server, client: WasmRuntimeClient, counting: str
) -> None:
    execution_id = await client.start_agent(counting)
    async with (
        Proxy(shared.port, cuts=1, seed=5) as proxy,
        WasmRuntimeClient(proxy.address, retry=RetryPolicy.never()) as cut,
    ):
        with pytest.raises(UnavailableError):
            [event async for event in cut.stream_events(execution_id)]


async def test_a_cut_execution_is_not_executed_again_behind_its_first_event(shared: Server, counting: str) -> None:
    async with Proxy(shared.port, cuts=1, seed=7) as proxy, WasmRuntimeClient(proxy.address, retry=QUICK) as cut:
        told = []

        async def execute() -> None:
            async for event in cut.execute_agent_stream(counting):
                told.append(event.sequence)

        with pytest.raises(UnavailableError):
            await execute()
        assert told == list(range(len(told)))
        assert len(told) > 0


async def test_a_stream_ends_with_the_error_of_its_execution(client: WasmRuntimeClient) -> None:
    await client.load_agent("streams.recurse", RECURSE, manifest("streams.recurse"))
    execution_id = await client.start_agent("streams.recurse")
    with pytest.raises(StackOverflowError) as error:
        [event async for event in client.stream_events(execution_id)]
    assert error.value.execution_id == execution_id


async def test_an_execution_that_was_refused_a_place_is_not_asked_for_again(servers: Servers) -> None:
    server = servers.start("engine.max_executions=1", "pool.queue_length=0")
    async with WasmRuntimeClient(server.grpc, retry=QUICK) as client:
        await client.load_agent("streams.loop", LOOP, manifest("streams.loop", wasm=LONG))
        first = await client.start_agent("streams.loop")
        await asyncio.sleep(0.3)
        second = await client.start_agent("streams.loop")
        with pytest.raises(UnavailableError) as error:
            [event async for event in client.stream_events(second, timeout=20)]
        assert (error.value.reason, error.value.execution_id) == ("OVERLOADED", second)
        await client.cancel(first)


async def test_what_is_not_kept_any_more_is_told_as_missed(servers: Servers) -> None:
    server = servers.start("streams.buffer_events=20", "streams.back_pressure=drop_oldest")
    async with WasmRuntimeClient(server.grpc, retry=RetryPolicy.never()) as client:
        await client.load_agent("streams.count", COUNT, manifest("streams.count", wasm=LONG))
        execution_id = await client.start_agent("streams.count")
        while (await client.get_execution(execution_id)).duration_us == 0:
            await asyncio.sleep(0.05)
        events = [event async for event in client.stream_events(execution_id)]
    missed = events[0]
    assert isinstance(missed, Missed)
    assert missed.first == 0
    assert [event.sequence for event in events[1:]] == list(range(missed.last + 1, CHUNKS + 3))


async def test_a_stream_has_a_deadline(client: WasmRuntimeClient) -> None:
    await client.load_agent("streams.silent", LOOP, manifest("streams.silent", wasm=LONG))
    execution_id = await client.start_agent("streams.silent")
    with pytest.raises(DeadlineExceededError):
        [event async for event in client.stream_events(execution_id, timeout=0.5)]
    # It is only the call that has ended.
    await client.cancel(execution_id)


async def test_a_stream_that_is_not_there_is_told_as_such(client: WasmRuntimeClient) -> None:
    with pytest.raises(StreamNotFoundError):
        [event async for event in client.stream_events(new_execution_id())]


async def test_a_server_that_closes_is_waited_for(servers: Servers) -> None:
    server = servers.start(data="kept")
    async with WasmRuntimeClient(server.grpc, retry=QUICK) as client:
        await client.load_agent("streams.count", COUNT, manifest("streams.count", wasm=LONG))
        execution_id = await client.start_agent("streams.count")
        events = client.stream_events(execution_id)
        await anext(events)
        await asyncio.to_thread(server.stop)
        servers.start(port=server.port, data="kept")
        # The one that is back knows of no execution before it.
        with pytest.raises(StreamNotFoundError):
            [event async for event in events]


async def test_a_stream_from_elsewhere_is_followed_to_its_end(shared: Server, client: WasmRuntimeClient) -> None:
    def post(path: str, body: object, method: str = "POST") -> dict[str, str]:
        request = urllib.request.Request(shared.http + path, json.dumps(body).encode(), method=method)
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request) as response:
            return dict(json.loads(response.read() or b"{}"))

    stream_id = post("/api/v1/streams/init", {"agent_id": "elsewhere", "pin_name": "text"})["stream_id"]
    for number in range(3):
        post(f"/api/v1/streams/{stream_id}/publish", {"number": number})
    post(f"/api/v1/streams/{stream_id}", None, "DELETE")
    events = [event async for event in client.stream_events(stream_id)]
    published = [json.loads(event.data_json) for event in events if isinstance(event, Published)]
    assert published == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert isinstance(events[-1], StreamEnd)
    assert events[-1].total_chunks == 3
