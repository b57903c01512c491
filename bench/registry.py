"""The table of measurements, in the order in which they are made."""

from typing import Any, Final

from bench.measurements import drain
from bench.measurements.measurement import Measurement

MEASUREMENTS: Final[dict[str, Measurement[Any]]] = {
    measurement.name: measurement for measurement in (drain.MEASUREMENT,)
}
