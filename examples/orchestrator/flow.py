"""A flow: nodes and the edges between them, read from YAML, and checked before anything is executed.

Invariant: each node of a `Flow` has at most one edge to it, and no node is behind itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mentat_client import AgentNode


class FlowError(Exception):
    """What is wrong with a flow's file."""


@dataclass(frozen=True)
class FlowNode:
    """A node: its name in the flow, what it executes, and the node whose output is its input."""

    id: str
    agent: AgentNode
    before: str | None


@dataclass(frozen=True)
class Flow:
    """A flow that can be run."""

    name: str
    nodes: tuple[FlowNode, ...]

    @classmethod
    def read(cls, path: Path) -> Flow:
        """Reads a flow from its file."""
        try:
            flow = yaml.safe_load(path.read_text())
            graph = flow["graph"]
            edges = {_node(edge["to"]): _node(edge["from"]) for edge in graph.get("edges", [])}
            if len(edges) < len(graph.get("edges", [])):
                raise FlowError("two edges lead to one node; a node has one input here")
            nodes = tuple(_read(node, edges) for node in graph["nodes"])
            name = str(flow.get("meta", {}).get("name", path.stem))
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise FlowError(f"`{path}` is no flow: {error!r}; see flow.yaml beside this program") from error
        known = {node.id for node in nodes}
        if len(known) < len(nodes):
            raise FlowError("two nodes have the same `id`")
        for end in (*edges, *edges.values()):
            if end not in known:
                raise FlowError(f"an edge names `{end}`, and there is no such node")
        for begin in known:
            at: str | None = begin
            for _ in nodes:
                at = edges.get(at) if at else None
            if at:
                raise FlowError(f"the edges lead from `{begin}` back to itself")
        return cls(name, nodes)

    def after(self, before: str | None) -> list[FlowNode]:
        """The nodes that are given this node's output; for `None`, those that are given the flow's input."""
        return [node for node in self.nodes if node.before == before]


def _node(pin: str) -> str:
    """The node of `NODE.PIN`. Agents here have one input and one output, so that the pin is for the reader."""
    return pin.split(".", 1)[0]


def _read(node: dict[str, Any], edges: dict[str, str]) -> FlowNode:
    agent_id, _, version = str(node["type"]).partition(":")
    name = str(node["id"])
    return FlowNode(name, AgentNode(agent_id, version), edges.get(name))
