"""Summarises a log: how many lines of each level, from when to when, and what was said most often."""

import heapq  # noqa: F401  What `Counter` imports when it is asked: there are no files then.
import json
import re
from collections import Counter

from componentize_py_types import Err
from wit_world import WitWorld as World
from wit_world.imports import log

LEVELS = ("FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE")
# Other words for the same.
ALIASES = {"CRITICAL": "FATAL", "ERR": "ERROR", "WARNING": "WARN", "NOTICE": "INFO"}
LEVEL = re.compile(r"\b(" + "|".join((*LEVELS, *ALIASES)) + r")\b[\]:]?\s*", re.IGNORECASE)
TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?:Z|[+-]\d{2}:?\d{2})?")
# What differs from one occurrence of a message to the next.
VARIABLE = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d+", re.IGNORECASE)
MOST_FREQUENT = 5


class WitWorld(World):
    def process(self, input: bytes) -> bytes:
        try:
            text = input.decode()
        except UnicodeDecodeError as error:
            raise Err(f"the input is not UTF-8: {error.reason} at byte {error.start}") from error
        lines = [line for line in text.splitlines() if line.strip()]
        if not lines:
            raise Err("the input is empty; it must be lines of a log")
        summary = summarise(lines)
        unmarked = summary["levels"].get("OTHER", 0)
        if unmarked:
            log.log(log.Level.INFO, f"{unmarked} of {len(lines)} lines name no level")
        return (json.dumps(summary, ensure_ascii=False) + "\n").encode()


def summarise(lines: list[str]) -> dict:
    levels: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    times: list[str] = []
    for line in lines:
        if time := TIME.search(line):
            times.append(time.group())
        level = LEVEL.search(line)
        if not level:
            levels["OTHER"] += 1
            continue
        name = level.group(1).upper()
        levels[ALIASES.get(name, name)] += 1
        messages[VARIABLE.sub("N", line[level.end() :]).strip()] += 1
    return {
        "lines": len(lines),
        "levels": {level: levels[level] for level in (*LEVELS, "OTHER") if levels[level]},
        "first": times[0] if times else None,
        "last": times[-1] if times else None,
        "most_frequent": [
            {"message": message, "count": count} for message, count in messages.most_common(MOST_FREQUENT)
        ],
    }
