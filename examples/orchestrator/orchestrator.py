"""A sample orchestrator: runs a flow of agents on a Mentat runtime, and shows it on a page while it runs.

python orchestrator.py flow.yaml --agents ../../agents --agents agents --input @letter.txt --page 8081
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import aclosing
from pathlib import Path

from flow import Flow, FlowError, FlowNode
from page import Page

from mentat_client import (
    AgentFolders,
    End,
    Log,
    MentatError,
    Report,
    RuntimeSelector,
    StreamData,
    Tls,
    WasmRuntimeClient,
    new_execution_id,
)


class Run:
    """One run of a flow."""

    def __init__(self, flow: Flow, selector: RuntimeSelector, page: Page, console: str) -> None:
        self._flow = flow
        self._selector = selector
        self._page = page
        self._console = console
        self.outputs: dict[str, bytes] = {}

    async def run(self, given: bytes) -> None:
        """Runs the whole flow; the first error ends it."""
        await self._page.tell(type="flow", name=self._flow.name, state="running")
        try:
            await self._run_after(None, given)
        except (MentatError, NodeError, ValueError, OSError) as error:
            await self._page.tell(type="flow", name=self._flow.name, state=f"ended: {error}", last=True)
            raise
        await self._page.tell(type="flow", name=self._flow.name, state="finished", last=True)

    async def _run_after(self, before: str | None, given: bytes) -> None:
        """Runs what comes after a node, side by side; where one fails, the others are ended."""
        running = [asyncio.create_task(self._run_node(node, given)) for node in self._flow.after(before)]
        try:
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run_node(self, node: FlowNode, given: bytes) -> None:
        execution_id = new_execution_id()
        about = {"node": node.id, "agent": node.agent.agent_id}
        if self._console:
            about["console"] = f"{self._console.rstrip('/')}/#/executions/{execution_id}"
        await self._page.tell(type="node", state="running", **about)
        try:
            output = await self._follow(node, given, execution_id, about)
        except (MentatError, NodeError) as error:
            await self._page.tell(type="node", state=str(error), **about)
            raise
        await self._page.tell(type="node", state="finished", **about)
        self.outputs[node.id] = output
        await self._run_after(node.id, output)

    async def _follow(self, node: FlowNode, given: bytes, execution_id: str, about: dict[str, str]) -> bytes:
        # Whether a module or a container executes it, is for the runtime to decide.
        events = self._selector.stream_node(node.agent, given, execution_id=execution_id)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, StreamData):
                    await self._page.tell(type="said", text=event.chunk.decode(errors="replace"), **about)
                elif isinstance(event, Log):
                    await self._page.tell(type="said", text=f"[{event.level}] {event.message}\n", **about)
                elif isinstance(event, Report):
                    text = event.message or event.data_json
                    await self._page.tell(type="said", text=f"[{event.kind}] {text}\n", **about)
                elif isinstance(event, End):
                    response = event.response
                    if response.exit_code != 0:
                        raise NodeError(f"node `{node.id}` ended with exit code {response.exit_code}")
                    if response.output_left_out:
                        raise NodeError(f"the output of node `{node.id}` is more than the server keeps")
                    await self._page.tell(type="output", text=response.output.decode(errors="replace"), **about)
                    return response.output
        raise NodeError(f"node `{node.id}` has told no end")


class NodeError(Exception):
    """A node whose agent has not done what it should."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="runs a flow of agents, and shows it on a page while it runs")
    parser.add_argument("flow", type=Path, help="the flow's YAML file")
    parser.add_argument("--input", default="", help="what the first nodes are given: text, `@FILE`, or `-` for stdin")
    parser.add_argument("--agents", type=Path, action="append", help="where folders of agents are; any number of times")
    parser.add_argument("--server", default=os.environ.get("MENTAT_SERVER", "127.0.0.1:50051"))
    parser.add_argument("--ca", type=Path, help="a file with roots to check the server's certificate against")
    parser.add_argument("--console", default="", help="the server's HTTP address, for links to its console")
    parser.add_argument("--page", type=int, help="serve the page on this port, until interrupted; 0 takes a free one")
    return parser.parse_args()


def read_input(text: str) -> bytes:
    """The input that an option means."""
    if text == "-":
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()


async def main() -> None:
    """Runs the flow; prints what its last nodes wrote."""
    options = arguments()
    flow, given = Flow.read(options.flow), read_input(options.input)
    tls = Tls.from_files(ca=options.ca) if options.ca else None
    page = Page()
    async with WasmRuntimeClient(options.server, api_key=os.environ.get("MENTAT_API_KEY"), tls=tls) as client:
        run = Run(flow, RuntimeSelector(client, AgentFolders(*options.agents or ["agents"])), page, options.console)
        if options.page is None:
            await run.run(given)
        else:
            async with page.serve(options.page) as address:
                print(f"the flow is shown at {address}", file=sys.stderr, flush=True)
                try:
                    await run.run(given)
                except (MentatError, NodeError) as error:
                    print(f"error: {error}", file=sys.stderr, flush=True)
                await asyncio.Event().wait()
    for node in flow.nodes:
        if not flow.after(node.id):
            sys.stdout.buffer.write(run.outputs[node.id])


if __name__ == "__main__":
    # A shell that starts it in the background would have it ignore the interrupt that ends it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except (FlowError, MentatError, NodeError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
