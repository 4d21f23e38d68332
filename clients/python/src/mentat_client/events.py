"""Events: what an execution says while it runs, a class for each kind.

Events of one execution are numbered from 0 without holes (`sequence`). `Missed` alone has no number of its own: it
stands in the place of those that were not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, ClassVar

from mentat_client.gen import runtime_pb2 as wire


@dataclass(frozen=True)
class Event:
    """One message about an execution."""

    type: ClassVar[str]
    """The kind, by the name that it has on the wire."""

    sequence: int
    """The number among the events of the execution."""
    timestamp: datetime | None
    """When the runtime had it."""


@dataclass(frozen=True)
class Log(Event):
    """A line that the agent logged; `level` is `error`, `warn`, `info`, `debug` or `trace`."""

    type = "log"
    level: str
    message: str


@dataclass(frozen=True)
class StreamStart(Event):
    """A stream begins; its name is its own within the execution."""

    type = "stream_start"
    stream: str


@dataclass(frozen=True)
class StreamData(Event):
    """The next chunk of a stream; `index` is the chunk's number within it."""

    type = "stream_data"
    stream: str
    index: int
    chunk: bytes


@dataclass(frozen=True)
class StreamEnd(Event):
    """A stream ends; where it is not `whole`, it was cut off.

    Without a name it is the end of a stream that was published from elsewhere.
    """

    type = "stream_end"
    stream: str
    total_chunks: int
    whole: bool


@dataclass(frozen=True)
class Metric(Event):
    """A value of a metric of the agent's own."""

    type = "metric"
    name: str
    value: float


@dataclass(frozen=True)
class Report(Event):
    """What the agent reports of its work; `kind` is `checkpoint`, `progress`, `heartbeat` or `metric`.

    `data_json` and `ts_json` are JSON as the agent wrote it, empty for nothing.
    """

    type = "report"
    kind: str
    message: str
    data_json: str
    correlation_id: str
    ts_json: str


@dataclass(frozen=True)
class Missed(Event):
    """Events that are not there any more, from the number `first` to the number `last`."""

    type = "missed"
    first: int
    last: int


@dataclass(frozen=True)
class Published(Event):
    """What an agent that runs elsewhere has published, as JSON."""

    type = "published"
    data_json: str


@dataclass(frozen=True)
class End(Event):
    """The execution has ended, and its agent ran to its own end; always the last event."""

    type = "end"
    response: wire.ExecuteAgentResponse


def _log(line: wire.LogLine) -> dict[str, Any]:
    level = wire.LogLevel.Name(line.level).removeprefix("LOG_LEVEL_").lower()
    return {"level": level, "message": line.message}


def _fields(message: Any) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


_KINDS: dict[str, tuple[type[Event], Callable[[Any], dict[str, Any]]]] = {
    "log": (Log, _log),
    "response": (End, lambda response: {"response": response}),
    "stream_start": (StreamStart, _fields),
    "stream_data": (StreamData, _fields),
    "stream_end": (StreamEnd, _fields),
    "metric": (Metric, _fields),
    "report": (Report, _fields),
    "missed": (Missed, _fields),
    "published": (Published, _fields),
}


def read(message: wire.ExecuteAgentEvent) -> Event | None:
    """An event as it came; `None` for a kind that this version does not know."""
    kind = message.WhichOneof("event")
    if kind is None:
        return None
    event, fields = _KINDS[kind]
    timestamp = message.timestamp.ToDatetime(timezone.utc) if message.HasField("timestamp") else None
    return event(sequence=message.sequence, timestamp=timestamp, **fields(getattr(message, kind)))


def next_sequence(message: wire.ExecuteAgentEvent, expected: int) -> int:
    """The number to go on with after an event."""
    if message.HasField("missed"):
        return max(expected, message.missed.last + 1)
    return max(expected, message.sequence + 1)


def ends_stream(event: Event | None) -> bool:
    """Whether nothing comes after the event."""
    return isinstance(event, End) or (isinstance(event, StreamEnd) and not event.stream)
