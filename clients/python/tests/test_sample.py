"""The sample orchestrator, as a program: its flow on a real container engine, its page, and flows that are none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Server, Servers
from engine import Engine

SAMPLE = ROOT / "examples/orchestrator"
AGENTS = (ROOT / "agents", SAMPLE / "agents")
UNWRAP = SAMPLE / "agents/unwrap"


@pytest.fixture(scope="module")
def equipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a container engine, which has the image of the sample's own agent, made as its README says."""
    engine = Engine(tmp_path_factory.mktemp("engine"))
    servers = Servers(tmp_path_factory.mktemp("equipped"))
    try:
        compiler = ["cc", "-static", "-O2", "-o", str(UNWRAP / "unwrap"), str(UNWRAP / "unwrap.c")]
        subprocess.run(compiler, check=True)
        engine.podman("build", "--tag", "localhost/unwrap:1", str(UNWRAP))
        yield servers.start(f"container.socket={engine.socket}")
        engine.is_empty()
    finally:
        servers.kill()
        engine.stop()


def command(server: Server, *options: str) -> list[str]:
    program = [sys.executable, str(SAMPLE / "orchestrator.py")]
    agents = [option for folder in AGENTS for option in ("--agents", str(folder))]
    return [*program, *options, "--server", server.grpc, *agents]


def run(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(server, *options), capture_output=True, text=True, timeout=120, check=False)


def test_the_flow_runs_from_its_first_node_to_its_last(equipped: Server) -> None:
    letter = f"@{SAMPLE / 'letter.txt'}"
    done = run(equipped, str(SAMPLE / "flow.yaml"), "--input", letter)
    assert done.returncode == 0, done.stderr
    assert "mill" in done.stdout
    for agent, is_container in (("mentatlab.redact", False), ("example.unwrap", True), ("mentatlab.summarise", False)):
        with urllib.request.urlopen(f"{equipped.http}/v1/agents/{agent}") as response:
            assert (json.load(response)["shape"] == "container image") == is_container, agent
    # Where there is nothing to tell in brief, the flow ends there.
    done = run(equipped, str(SAMPLE / "flow.yaml"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "node `summarise` ended with exit code 1" in done.stderr


def test_a_server_without_a_container_engine_says_what_is_missing(shared: Server) -> None:
    done = run(shared, str(SAMPLE / "flow.yaml"), "--input", "one line")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`example.unwrap` is a container agent, and this server has no container engine" in done.stderr
    assert "`container.socket`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def page(equipped: Server) -> Iterator[str]:
    flow, letter = str(SAMPLE / "flow.yaml"), f"@{SAMPLE / 'letter.txt'}"
    process = subprocess.Popen(
        command(equipped, flow, "--input", letter, "--page", "0", "--console", equipped.http),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "http://127.0.0.1:" in line, line
    yield line.split()[-1]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0


def messages(address: str, last_seen: str | None = None) -> list[dict[str, Any]]:
    request = urllib.request.Request(address + "events")
    if last_seen is not None:
        request.add_header("last-event-id", last_seen)
    told = []
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            if line.startswith(b"data: "):
                told.append(json.loads(line.removeprefix(b"data: ")))
                if told[-1].get("last"):
                    return told
    return told


def test_the_page_is_told_what_each_node_says_and_how_it_ends(page: str) -> None:
    told = messages(page)
    assert told[-1]["state"] == "finished"
    states = [(message["node"], message["state"]) for message in told if message["type"] == "node"]
    nodes = ("redact", "unwrap", "summarise")
    assert states == [(node, state) for node in nodes for state in ("running", "finished")]

    def said(node: str) -> list[str]:
        return [message["text"] for message in told if message["type"] == "said" and message["node"] == node]

    outputs = {message["node"]: message["text"] for message in told if message["type"] == "output"}
    assert set(outputs) == set(nodes)
    # A line of the log of a module, reports and output of a container, and the tokens of a stream of a module.
    assert any(text.startswith("[info]") for text in said("redact"))
    assert [text for text in said("unwrap") if text.startswith("[progress]")] == [
        f"[progress] paragraph {number}\n" for number in range(1, 5)
    ]
    assert "".join(text for text in said("unwrap") if not text.startswith("[progress]")) == outputs["unwrap"]
    assert "".join(said("summarise")).startswith(outputs["summarise"])
    assert len(said("summarise")) > 10
    assert "@" not in outputs["redact"]
    assert len(outputs["unwrap"].splitlines()) == 4
    assert all("/#/executions/" in message["console"] for message in told if message["type"] == "node")
    # Who comes back is told the rest.
    assert messages(page, last_seen=str(len(told) - 3)) == told[-2:]


def test_the_page_is_for_this_machine_and_runs_its_own_script_alone(page: str) -> None:
    for path, kind in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
        with urllib.request.urlopen(page + path) as response:
            assert response.headers["content-type"].startswith(kind)
            assert "default-src 'none'" in response.headers["content-security-policy"]
    for path, host, code in (("", "evil.example:80", 403), ("../page.py", None, 404), ("x", None, 404)):
        request = urllib.request.Request(page + path)
        if host:
            request.add_header("host", host)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request)
        assert error.value.code == code
        error.value.close()


@pytest.mark.parametrize(
    ("flow", "fault"),
    [
        ("nodes: []", "is no flow"),
        ("graph: { nodes: [ { id: a, type: x.y }, { id: a, type: x.y } ] }", "same `id`"),
        ("graph: { nodes: [ { id: a, type: x.y } ], edges: [ { from: b, to: a } ] }", "no such node"),
        (
            "graph: { nodes: [ { id: a, type: x.y }, { id: b, type: x.y } ], "
            "edges: [ { from: a, to: b }, { from: b, to: a } ] }",
            "back to itself",
        ),
        ("graph: { nodes: [ { id: a, type: no.such } ] }", "AGENT_NOT_FOUND"),
    ],
)
def test_a_flow_that_cannot_run_says_why(shared: Server, tmp_path: Path, flow: str, fault: str) -> None:
    (tmp_path / "flow.yaml").write_text(flow)
    done = run(shared, str(tmp_path / "flow.yaml"))
    assert done.returncode == 1
    assert fault in done.stderr
    assert "Traceback" not in done.stderr


def test_a_node_that_fails_ends_the_flow_and_says_which(shared: Server, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("graph: { nodes: [ { id: table, type: mentatlab.json-transformer } ] }")
    done = run(shared, str(tmp_path / "flow.yaml"), "--input", "this is no JSON")
    assert done.returncode == 1
    assert "node `table` ended with exit code" in done.stderr


def test_the_key_is_taken_from_the_environment_and_shown_nowhere(shared: Server) -> None:
    secret = "a secret with a space"
    environment = {**os.environ, "MENTAT_API_KEY": secret}
    done = subprocess.run(
        command(shared, str(SAMPLE / "flow.yaml")), capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert "API key" in done.stderr
    assert secret not in done.stderr + done.stdout
