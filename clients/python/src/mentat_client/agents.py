"""Agents where an orchestrator has them: folders with a manifest and a module.

Owns the reading of such folders, and judges them no further than it must to find things; the runtime does.

Invariant: nothing outside an agent's folder is read, whatever its manifest names.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml

MANIFEST = "manifest.yaml"
"""The manifest's name in an agent's folder."""

MAX_MANIFEST_BYTES = 4 << 20
"""Bytes of a manifest at most, as the command line has it."""

MAX_MODULE_BYTES = 128 << 20
"""Bytes of a module at most, as the server has it where it is not configured."""

MODULE = "agent.wasm"
"""The module's name where the manifest gives none."""


@dataclass(frozen=True)
class AgentPackage:
    """An agent as it is loaded: the text of its manifest, and its module, empty where it is a container image."""

    agent_id: str
    version: str
    manifest: str = field(repr=False)
    wasm_bytes: bytes = field(repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> AgentPackage:
        """Reads an agent's folder. `ValueError` says what is wrong with it, `OSError` what cannot be read."""
        folder = Path(folder)
        manifest = _Manifest.read(folder / MANIFEST)
        return cls(manifest.agent_id, manifest.version, manifest.text, manifest.module(folder))


class AgentSource(Protocol):
    """Where agents come from that a runtime does not have."""

    async def fetch(self, agent_id: str, version: str) -> AgentPackage | None:
        """The agent in that version, or in any where `version` is empty; `None` where the source does not have it."""
        ...


class AgentFolders:
    """Agents that lie beside each other in a folder, one below it for each: `agents/<any name>/manifest.yaml`.

    Where several are of one id, that of the version which is asked for is taken, and without one the first by its
    folder's name. Of several such folders the first comes first.
    """

    def __init__(self, root: str | Path, *more: str | Path) -> None:
        self._roots = [Path(root), *map(Path, more)]

    async def fetch(self, agent_id: str, version: str) -> AgentPackage | None:
        """Finds an agent by what its manifest says, and reads it."""
        return await asyncio.to_thread(self._find, agent_id, version)

    def _find(self, agent_id: str, version: str) -> AgentPackage | None:
        fault: Exception | None = None
        for path in (path for root in self._roots for path in sorted(root.glob(f"*/{MANIFEST}"))):
            try:
                manifest = _Manifest.read(path)
            except (ValueError, OSError) as error:
                # Some other agent's, perhaps; what is asked for may be behind it.
                fault = fault or error
                continue
            if manifest.agent_id == agent_id and version in ("", manifest.version):
                return AgentPackage.read(path.parent)
        if fault:
            raise fault
        return None


@dataclass(frozen=True)
class _Manifest:
    text: str
    agent_id: str
    version: str
    runtime: str
    module_name: str | None

    @classmethod
    def read(cls, path: Path) -> _Manifest:
        try:
            text = _read(path, MAX_MANIFEST_BYTES).decode()
            # Every scalar is the text that it is: `1.0` is a version, and `no` is an id.
            keys = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes nothing but text, lists and mappings
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"manifest `{path}` is no YAML: {error}") from None
        if not isinstance(keys, dict):
            raise ValueError(f"manifest `{path}` is no mapping; begin it with `id:`")
        for key in ("id", "version"):
            if not isinstance(keys.get(key), str) or not keys[key]:
                raise ValueError(f"manifest `{path}` has no `{key}`")
        module = keys.get("module")
        return cls(text, keys["id"], keys["version"], str(keys.get("runtime", "")), module if module else None)

    def module(self, folder: Path) -> bytes:
        if self.module_name is None and self.runtime != "wasm":
            return b""
        path = folder / (self.module_name or MODULE)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"module `{path}` of agent `{self.agent_id}` is outside of the agent's folder")
        if not path.exists() and self.runtime != "wasm":
            # The image is enough.
            return b""
        return _read(path, MAX_MODULE_BYTES)


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"`{path}` has more than {limit} bytes")
    return content
