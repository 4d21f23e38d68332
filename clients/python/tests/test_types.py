"""The types of the package, as a program on top of it has them: by the package that is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

PROGRAM = """
from mentat_client import AgentFolders, AgentNode, End, Event, FuelExhaustedError, Log, RuntimeSelector
from mentat_client import SandboxConfig, StreamData, WasmRuntimeClient


class Node:
    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id


def text(event: Event) -> str:
    if isinstance(event, StreamData):
        return event.chunk.decode()
    if isinstance(event, Log):
        return event.message
    return event.response.version if isinstance(event, End) else event.type


async def run(server: str) -> list[str]:
    async with WasmRuntimeClient(server) as client:
        selector = RuntimeSelector(client, AgentFolders("agents"))
        answer = await selector.execute_node(Node("a.b"), b"x")
        told = [answer.output.decode(), str(answer.exit_code + 1), str(answer.metrics.execution_us)]
        async for event in selector.stream_node(AgentNode("a.b", sandbox_config=SandboxConfig(fuel=10)), b"x"):
            told.append(text(event))
        try:
            told += [agent.agent_id for agent in await client.list_agents()]
        except FuelExhaustedError as error:
            told.append(error.execution_id)
        return told
"""


def check(folder: Path, program: str) -> tuple[int, str]:
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "program.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_program_is_checked_by_the_types_of_the_package(tmp_path: Path) -> None:
    assert files("mentat_client").joinpath("py.typed").is_file()
    code, said = check(tmp_path, PROGRAM)
    assert code == 0, said
    code, said = check(tmp_path, PROGRAM.replace("answer.exit_code + 1", "answer.exit_code.decode()"))
    assert code == 1, said
    assert '"int" has no attribute "decode"' in said
