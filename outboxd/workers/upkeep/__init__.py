"""The maintenance workers. All have the same shape, and all work in chunks of at most `CHUNK` rows."""

from outboxd.workers.upkeep.dead_letters import DeadLetterMover
from outboxd.workers.upkeep.gauges import GaugeSampler
from outboxd.workers.upkeep.recovery import StuckRecovery, UnknownStatusSweep
from outboxd.workers.upkeep.release import HoldRelease
from outboxd.workers.upkeep.reservations import Reservations
from outboxd.workers.upkeep.retention import Retention
from outboxd.workers.upkeep.retries import RetryScheduler

__all__ = [
    "DeadLetterMover",
    "GaugeSampler",
    "HoldRelease",
    "Reservations",
    "Retention",
    "RetryScheduler",
    "StuckRecovery",
    "UnknownStatusSweep",
]
