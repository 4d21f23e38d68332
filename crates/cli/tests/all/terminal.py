"""Runs a program on a terminal of its own and types: terminal.py LINES PROGRAM ARGUMENTS… Prints what the terminal shows."""

import os
import pty
import sys
import time

lines, *command = sys.argv[1:]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
shown = b""
waiting = [line.encode() + b"\n" for line in lines.split("\n")]
asked = 0
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        break
    if not piece:
        break
    shown += piece
    if shown.count(b": ") > asked and waiting and shown.endswith(b": "):
        asked = shown.count(b": ")
        # The program asks first and stops the echo then.
        time.sleep(0.3)
        os.write(terminal, waiting.pop(0))
_, status = os.waitpid(child, 0)
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(status))
