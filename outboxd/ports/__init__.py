"""The borders of the workers: what they ask of a store and of a sink. Pure: only types and values."""

from outboxd.ports.backlog import Lookout, QueueSizes, Sampler, Sighting
from outboxd.ports.doorbell import Bell, Doorbell
from outboxd.ports.lease import Grant, LeaseStore, LeaseView
from outboxd.ports.reading import (
    EVERY_TOPIC,
    NOTHING_STANDS,
    Blocked,
    EventReader,
    Found,
    LaneSignature,
    Snapshot,
    Standing,
    TopicFilter,
)
from outboxd.ports.settling import Hold, Rejection, Settler
from outboxd.ports.sink import Report, Sink
from outboxd.ports.upkeep import DueEvent, HeldEvent, StuckEvent, UnknownStatus, Upkeep

__all__ = [
    "EVERY_TOPIC",
    "NOTHING_STANDS",
    "Bell",
    "Blocked",
    "Doorbell",
    "DueEvent",
    "EventReader",
    "Found",
    "Grant",
    "HeldEvent",
    "Hold",
    "LaneSignature",
    "LeaseStore",
    "LeaseView",
    "Lookout",
    "QueueSizes",
    "Rejection",
    "Report",
    "Sampler",
    "Settler",
    "Sighting",
    "Sink",
    "Snapshot",
    "Standing",
    "StuckEvent",
    "TopicFilter",
    "UnknownStatus",
    "Upkeep",
]
