"""How long to wait before the next attempt. Emits delays in seconds, never points in time."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum


class Strategy(Enum):
    """The Go library's three strategies."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between `base` and `max` seconds, each stretched or shrunk by up to `jitter` (0 to 1) of itself."""

    strategy: Strategy = Strategy.EXPONENTIAL
    base: float = 60.0
    max: float = 1800.0
    jitter: float = 0.1
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)
    """A source of numbers in [0, 1)."""

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (1 is the first). Never above `max`, never negative."""
        step = max(0, attempt - 1)
        match self.strategy:
            case Strategy.FIXED:
                plain = self.base
            case Strategy.LINEAR:
                plain = self.base * (step + 1)
            case Strategy.EXPONENTIAL:
                # 2.0**1024 overflows; beyond 63 doublings every base is above any max anyway.
                plain = self.base * 2.0 ** min(step, 63)
        plain = min(plain, self.max)
        return min(self.max, plain * (1 + self.jitter * (2 * self.random() - 1)))
