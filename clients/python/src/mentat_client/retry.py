"""When a call is made again, and until when: the deadline of a call and the policy of its attempts.

Invariant: nothing is tried again but what ended with `UNAVAILABLE`, and nothing after the deadline.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass

from mentat_client.errors import DeadlineExceededError, MentatError, UnavailableError


@dataclass(frozen=True)
class RetryPolicy:
    """How often a call is made that ends with `UNAVAILABLE`, and how long it waits in between.

    The wait begins with `first_delay` seconds and doubles up to `longest_delay`; half of it is left to chance, so that
    callers that were refused together do not come back together. What the server asks for is waited at least.
    """

    attempts: int = 8
    first_delay: float = 0.1
    longest_delay: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("`attempts` is less than 1; 1 makes each call once")
        if not 0 < self.first_delay <= self.longest_delay:
            raise ValueError("`first_delay` must be more than 0 seconds, and no more than `longest_delay`")

    @classmethod
    def never(cls) -> RetryPolicy:
        """Makes each call once."""
        return cls(attempts=1)

    def delay(self, failures: int, error: MentatError) -> float | None:
        """Seconds to wait after that many failures in a row; `None` where the error is to be told."""
        if not isinstance(error, UnavailableError) or failures >= self.attempts:
            return None
        wanted = min(self.longest_delay, self.first_delay * 2.0 ** min(failures - 1, 64))
        chance = wanted * random.uniform(0.5, 1.0)
        if error.retry_after is None:
            return chance
        return error.retry_after.total_seconds() + chance - wanted / 2


class Deadline:
    """A moment by which a call must have ended."""

    def __init__(self, timeout: float) -> None:
        if not timeout > 0:
            raise ValueError("a timeout must be more than 0 seconds; `math.inf` is none")
        self._timeout = timeout
        self._end = time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Seconds that are left, for gRPC; `None` without end.

        Raises `DeadlineExceededError` when there are none.
        """
        if math.isinf(self._end):
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError(f"the call was given {self._timeout:g} seconds, which have passed")
        return left

    def allows(self, delay: float) -> bool:
        """Whether anything is left after that many seconds."""
        return time.monotonic() + delay < self._end
