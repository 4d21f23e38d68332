"""A container engine of the tests' own: Podman with runc, with its storage, socket and state in a folder.

Debian's packages `podman` and `runc`, as root; `cargo xtask test --only client` installs them. Where there are none the
tests that need them fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

START_SECONDS = 30
EMPTY_SECONDS = 20
# A machine that is a sandbox itself may forbid raising limits, which the engine would do by default.
SETTINGS = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class Engine:
    """A Podman that listens."""

    def __init__(self, folder: Path) -> None:
        _reap()
        self._folder = folder
        (folder / "containers.conf").write_text(SETTINGS)
        self.socket = folder / "engine.sock"
        self._service = subprocess.Popen(
            self._command("system", "service", "--time=0", f"unix://{self.socket}"),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(folder / "engine.log").open("w"),
        )
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as trying:
                trying.connect(str(self.socket))
                return
            assert time.monotonic() < end, (folder / "engine.log").read_text()
            time.sleep(0.02)

    def podman(self, *arguments: str) -> str:
        """What `podman` answers."""
        done = subprocess.run(
            self._command(*arguments), env=self._environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"podman {arguments} (as root?): {done.stderr}"
        return done.stdout

    def is_empty(self) -> None:
        """Waits until there is no container any more."""
        end = time.monotonic() + EMPTY_SECONDS
        while left := self.podman("ps", "--all", "--quiet"):
            assert time.monotonic() < end, f"left: {left}"
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it, and what is left of its containers."""
        self._service.kill()
        self._service.wait()
        for arguments in (["rm", "--all", "--force", "--time", "0"], ["umount", "--all"]):
            subprocess.run(self._command(*arguments), env=self._environment(), capture_output=True, check=False)
        for place in ("root", "root/vfs", "run"):
            # Podman keeps its own storage mounted on itself.
            subprocess.run(["umount", str(self._folder / place)], capture_output=True, check=False)

    def _command(self, *arguments: str) -> list[str]:
        root, run = self._folder / "root", self._folder / "run"
        return ["podman", "--root", str(root), "--runroot", str(run), "--storage-driver", "vfs", *arguments]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self._folder / "containers.conf")}


def _reap() -> None:
    """Waits for what the engine's processes leave, as the first process of a machine does.

    In a sandbox that may be a program that does not, and Podman waits half a minute for each that is not waited for.
    """
    set_child_subreaper = 36
    assert ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0) == 0
    threading.Thread(target=_wait_for_what_is_left, daemon=True).start()


def _wait_for_what_is_left() -> None:
    session = os.getsid(0)
    while True:
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                # Behind the name, which may have anything in it: state, parent, group, session (proc_pid_stat(5)).
                state, parent, _, of = entry.read_text().rpartition(")")[2].split()[:4]
                # What the tests start themselves is in their own session, and waited for by them.
                if state == "Z" and int(parent) == os.getpid() and int(of) != session:
                    os.waitpid(int(entry.parent.name), os.WNOHANG)
        time.sleep(0.02)
