"""The selector: what is missing is loaded, once, and executed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import COUNT, ECHO, LONG, LOOP, ROOT, Proxy, Server, Servers, manifest

from mentat_client import (
    AgentFolders,
    AgentNode,
    AgentNotFoundError,
    AgentPackage,
    AgentSource,
    End,
    ExecutionTimeoutError,
    FuelExhaustedError,
    RetryPolicy,
    RuntimeSelector,
    SandboxConfig,
    StreamData,
    WasmRuntimeClient,
    new_execution_id,
)


def folder(root: Path, agent_id: str, module: bytes = ECHO, version: str = "1.0.0") -> Path:
    place = root / f"{agent_id}-{version}"
    place.mkdir(parents=True)
    (place / "manifest.yaml").write_text(manifest(agent_id, version, LONG))
    (place / "agent.wasm").write_bytes(module)
    return place


async def test_agents_are_looked_for_in_one_folder_after_another(tmp_path: Path) -> None:
    for number, names in enumerate((["a.first", "a.both"], ["a.both", "a.second"])):
        for name in names:
            place = folder(tmp_path / str(number), name)
            (place / "agent.wasm").write_bytes(str(number).encode())
    source = AgentFolders(tmp_path / "0", tmp_path / "nowhere", tmp_path / "1")
    found = {name: await source.fetch(name, "") for name in ("a.first", "a.both", "a.second", "a.third")}
    assert {name: package and package.wasm_bytes for name, package in found.items()} == {
        "a.first": b"0",
        "a.both": b"0",
        "a.second": b"1",
        "a.third": None,
    }


class Counting:
    """A source that counts what it is asked for."""

    def __init__(self, source: AgentSource) -> None:
        self._source = source
        self.fetched: list[str] = []

    async def fetch(self, agent_id: str, version: str) -> AgentPackage | None:
        self.fetched.append(agent_id)
        return await self._source.fetch(agent_id, version)


async def test_an_agent_that_is_missing_is_loaded_and_executed(client: WasmRuntimeClient) -> None:
    if await client.is_loaded("mentatlab.word-statistics"):
        await client.unload_agent("mentatlab.word-statistics")
    source = Counting(AgentFolders(ROOT / "agents"))
    selector = RuntimeSelector(client, source)
    case = ROOT / "agents/word-statistics/cases/prose"
    for _ in range(2):
        answer = await selector.execute_node("mentatlab.word-statistics", (case / "input").read_bytes())
        assert answer.output == (case / "expect").read_bytes()
    assert source.fetched == ["mentatlab.word-statistics"]
    # What somebody unloads is loaded again.
    await client.unload_agent("mentatlab.word-statistics")
    await selector.execute_node("mentatlab.word-statistics")
    assert source.fetched == ["mentatlab.word-statistics"] * 2


async def test_an_agent_that_many_miss_is_loaded_once(servers: Servers, tmp_path: Path) -> None:
    folder(tmp_path, "selector.many")
    async with WasmRuntimeClient(servers.start().grpc) as client:
        source = Counting(AgentFolders(tmp_path))
        selector = RuntimeSelector(client, source)
        numbers = [str(number).encode() for number in range(50)]
        answers = await asyncio.gather(*(selector.execute_node("selector.many", number) for number in numbers))
        assert [answer.output for answer in answers] == numbers
        assert source.fetched == ["selector.many"]
        assert len(selector._loading) == 0


async def test_a_caller_that_leaves_while_it_loads_leaves_nobody_behind(servers: Servers, tmp_path: Path) -> None:
    folder(tmp_path, "selector.left")

    class Slow(AgentFolders):
        async def fetch(self, agent_id: str, version: str) -> AgentPackage | None:
            await asyncio.sleep(0.3)
            return await super().fetch(agent_id, version)

    async with WasmRuntimeClient(servers.start().grpc) as client:
        selector = RuntimeSelector(client, Slow(tmp_path))
        first = asyncio.create_task(selector.execute_node("selector.left", b"1"))
        second = asyncio.create_task(selector.execute_node("selector.left", b"2"))
        await asyncio.sleep(0.15)
        first.cancel()
        assert (await second).output == b"2"


async def test_an_agent_that_nobody_has_is_not_found(client: WasmRuntimeClient, tmp_path: Path) -> None:
    selector = RuntimeSelector(client, AgentFolders(tmp_path))
    with pytest.raises(AgentNotFoundError):
        await selector.execute_node("selector.nowhere")
    with pytest.raises(AgentNotFoundError, match="source"):
        await selector.ensure_loaded("selector.nowhere")


async def test_a_node_names_a_version_and_limits(client: WasmRuntimeClient, tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        folder(tmp_path, "selector.versions", version=version)
    folder(tmp_path, "selector.loop", LOOP)
    selector = RuntimeSelector(client, AgentFolders(tmp_path))
    for version in ("2.0.0", "1.0.0"):
        answer = await selector.execute_node(AgentNode("selector.versions", version))
        assert answer.version == version
    with pytest.raises(ExecutionTimeoutError):
        await selector.execute_node(AgentNode("selector.loop", sandbox_config=SandboxConfig(timeout_ms=100)))


async def test_a_node_of_an_orchestrators_own_will_do(client: WasmRuntimeClient, tmp_path: Path) -> None:
    @dataclass
    class FlowNode:
        id: str
        agent_id: str

    folder(tmp_path, "selector.own")
    selector = RuntimeSelector(client, AgentFolders(tmp_path))
    answer = await selector.execute_node(FlowNode("n1", "selector.own"), b"x")
    assert answer.output == b"x"


async def test_a_node_is_streamed_through_cut_connections(shared: Server, tmp_path: Path) -> None:
    folder(tmp_path, "selector.stream", COUNT)
    quick = RetryPolicy(attempts=20, first_delay=0.01, longest_delay=0.2)
    async with Proxy(shared.port, cuts=6, seed=3) as proxy, WasmRuntimeClient(proxy.address, retry=quick) as client:
        selector = RuntimeSelector(client, AgentFolders(tmp_path))
        events = [event async for event in selector.stream_node("selector.stream")]
        assert [event.sequence for event in events] == list(range(203))
        assert isinstance(events[-1], End)
        assert proxy.cut >= 3


async def test_a_streamed_node_ends_with_its_error(servers: Servers, tmp_path: Path) -> None:
    folder(tmp_path, "selector.error", LOOP)
    async with WasmRuntimeClient(servers.start().grpc) as client:
        selector = RuntimeSelector(client, AgentFolders(tmp_path))
        node = AgentNode("selector.error", sandbox_config=SandboxConfig(fuel=1_000_000))
        with pytest.raises(FuelExhaustedError):
            [event async for event in selector.stream_node(node)]


async def test_leaving_a_streamed_node_ends_its_execution(servers: Servers, tmp_path: Path) -> None:
    folder(tmp_path, "selector.leave", COUNT)
    async with WasmRuntimeClient(servers.start().grpc) as client:
        selector = RuntimeSelector(client, AgentFolders(tmp_path))
        execution_id = new_execution_id()
        events = selector.stream_node("selector.leave", execution_id=execution_id)
        async for event in events:
            if isinstance(event, StreamData):
                break
        await events.aclose()
        while not (reason := (await client.get_execution(execution_id)).error_reason):
            await asyncio.sleep(0.02)
        assert reason == "CANCELLED"


def test_a_folder_is_read_as_it_is(tmp_path: Path) -> None:
    package = AgentPackage.read(folder(tmp_path, "folder.plain"))
    assert (package.agent_id, package.version, package.wasm_bytes) == ("folder.plain", "1.0.0", ECHO)
    assert "ECHO" not in repr(package)


def test_an_image_needs_no_module(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text("id: folder.image\nversion: 1.0.0\nruntime: python3.12\nimage: a/b:1\n")
    assert AgentPackage.read(tmp_path).wasm_bytes == b""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- a list", "no mapping"),
        ("id: [", "no YAML"),
        ("version: 1.0.0", "no `id`"),
        ("id: a.b", "no `version`"),
        ("id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: ../../secret", "outside"),
        ("id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: /etc/passwd", "outside"),
        ("id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: link", "outside"),
    ],
)
def test_a_folder_that_cannot_be_an_agent_says_why(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "manifest.yaml").write_text(text)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match=fault):
        AgentPackage.read(tmp_path)


async def test_a_folder_that_is_no_agent_is_told_of_only_where_what_is_asked_for_is_not_found(tmp_path: Path) -> None:
    folder(tmp_path, "folder.good")
    (tmp_path / "a-bad-one").mkdir()
    (tmp_path / "a-bad-one/manifest.yaml").write_text("id: [")
    source = AgentFolders(tmp_path)
    package = await source.fetch("folder.good", "")
    assert package is not None
    assert package.agent_id == "folder.good"
    with pytest.raises(ValueError, match="a-bad-one"):
        await source.fetch("folder.other", "")


def test_a_module_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mentat_client.agents.MAX_MODULE_BYTES", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        AgentPackage.read(folder(tmp_path, "folder.large"))
