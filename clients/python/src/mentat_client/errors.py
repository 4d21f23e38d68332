"""Errors: a class for each row of the runtime's error table, and two for what no server has said.

Owns the way from a gRPC status to an exception. An error tells the reason, the sentence and the structured facts that
the server gave; a status without them (the connection is gone, the deadline has passed) is told by its code.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

DOMAIN = "mentat.runtime"
"""The domain of `google.rpc.ErrorInfo`."""

_DETAILS = "grpc-status-details-bin"

_TORN = "Internal error from Core"


class MentatError(Exception):
    """Something that the runtime refused, or that did not work out. Every other error is one of these.

    `reason` is the row of the error table, empty where no server has told one; `details` are the facts that the server
    has structured; `execution_id` names the execution, where there was one; `retry_after` is what the server asks to
    wait before the next attempt.
    """

    row: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        details: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason or self.row
        self.details = dict(details or {})
        self.retry_after = retry_after

    @property
    def execution_id(self) -> str:
        """The execution that the error is about; empty where there was none."""
        return self.details.get("execution_id", "")

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"


class UnavailableError(MentatError):
    """No server answers, or it is closing. The only kind of error after which calls are made again."""


class DeadlineExceededError(MentatError):
    """The time that the call was given has passed."""


class InvalidManifestError(MentatError):
    """The manifest is not valid; `details["problems"]` names each line and key."""

    row = "INVALID_MANIFEST"


class InvalidModuleError(MentatError):
    """The module cannot run here; `details["problems"]` names what is missing or not offered."""

    row = "INVALID_MODULE"


class InvalidRequestError(MentatError):
    """The request makes no sense; the message says which part."""

    row = "INVALID_REQUEST"


class AgentNotFoundError(MentatError):
    """No such agent or version is loaded."""

    row = "AGENT_NOT_FOUND"


class StreamNotFoundError(MentatError):
    """There is no such stream, or it is not kept any more, as when the server was started again."""

    row = "STREAM_NOT_FOUND"


class ExecutionNotFoundError(MentatError):
    """The execution is neither running nor remembered."""

    row = "EXECUTION_NOT_FOUND"


class AttestationRejectedError(MentatError):
    """The agent's signature does not hold."""

    row = "ATTESTATION_REJECTED"


class UnauthenticatedError(MentatError):
    """The call needs an API key, or a client certificate, that the server knows."""

    row = "UNAUTHENTICATED"


class SecurityViolationError(MentatError):
    """The agent used a power that it was not granted, and was ended for it."""

    row = "SECURITY_VIOLATION"


class PolicyDeniedError(MentatError):
    """The operator's policy refuses the call."""

    row = "POLICY_DENIED"


class FuelExhaustedError(MentatError):
    """The agent used up its fuel."""

    row = "FUEL_EXHAUSTED"


class MemoryLimitError(MentatError):
    """The agent needed more memory than its limit."""

    row = "MEMORY_LIMIT"


class OutputTooLargeError(MentatError):
    """The agent wrote more output than its limit."""

    row = "OUTPUT_TOO_LARGE"


class StackOverflowError(MentatError):
    """The agent recursed too deeply; `details["backtrace"]` says where."""

    row = "STACK_OVERFLOW"


class ExecutionTimeoutError(DeadlineExceededError):
    """The agent did not finish in its own time, or in that of the call."""

    row = "TIMEOUT"


class TrapError(MentatError):
    """The agent trapped; `details` say why (`trap`) and where (`backtrace`)."""

    row = "TRAP"


class OverloadedError(UnavailableError):
    """Every place for executions is taken."""

    row = "OVERLOADED"


class RuntimeUnavailableError(UnavailableError):
    """The server cannot reach what executes the agent, as a container engine."""

    row = "UNAVAILABLE"


class RateLimitedError(MentatError):
    """The caller calls too often; `retry_after` says how long to wait."""

    row = "RATE_LIMITED"


class ExecutionCancelledError(MentatError):
    """The execution was cancelled."""

    row = "CANCELLED"


class InternalError(MentatError):
    """A bug of the runtime, or a broken host; the server's log has the cause."""

    row = "INTERNAL"


def _classes(base: type[MentatError]) -> list[type[MentatError]]:
    return [found for child in base.__subclasses__() for found in (child, *_classes(child))]


ERRORS: Mapping[str, type[MentatError]] = {found.row: found for found in _classes(MentatError) if found.row}
"""The class of each row of the error table."""

_CODES: Mapping[grpc.StatusCode, type[MentatError]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
}


def from_status(error: grpc.aio.AioRpcError) -> MentatError:
    """The typed error of a gRPC status.

    A row that this version does not know is told as the class of its code, with its reason.
    """
    if is_torn(error):
        return UnavailableError(
            "the connection was lost, or the call refused, while its request was sent", code=grpc.StatusCode.UNAVAILABLE
        )
    info, retry_after = _facts(error)
    reason = info.reason if info.domain == DOMAIN else ""
    kind = ERRORS.get(reason) or _CODES.get(error.code(), MentatError)
    return kind(
        error.details() or "the server has said nothing",
        code=error.code(),
        reason=reason,
        details=dict(info.metadata),
        retry_after=retry_after,
    )


def is_torn(error: grpc.aio.AioRpcError) -> bool:
    """Whether grpcio itself made the status up, since a write failed on a call that had ended."""
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _TORN and not error.trailing_metadata()


def _facts(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, timedelta | None]:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_after: timedelta | None = None
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(retry):
                    retry_after = retry.retry_delay.ToTimedelta()
                else:
                    detail.Unpack(info)
        except DecodeError:
            # Some proxy has cut it; code and message are there all the same.
            continue
    return info, retry_after
