"""The table of measurements, in the order in which they are made."""

from typing import Any, Final

from bench.measurements import (
    aggregates,
    cost,
    crash,
    doorbell,
    drain,
    idle,
    latency,
    payloads,
    profile,
    replicas,
    sent_rows,
    settings,
    start,
    sustained,
    writers,
)
from bench.measurements.measurement import Measurement

MEASUREMENTS: Final[dict[str, Measurement[Any]]] = {
    measurement.name: measurement
    for measurement in (
        drain.MEASUREMENT,
        payloads.MEASUREMENT,
        aggregates.MEASUREMENT,
        replicas.MEASUREMENT,
        sustained.MEASUREMENT,
        latency.MEASUREMENT,
        writers.MEASUREMENT,
        cost.MEASUREMENT,
        settings.MEASUREMENT,
        idle.MEASUREMENT,
        doorbell.MEASUREMENT,
        profile.MEASUREMENT,
        start.MEASUREMENT,
        crash.MEASUREMENT,
        # Last: the server is busy with what it leaves behind.
        sent_rows.MEASUREMENT,
    )
}
