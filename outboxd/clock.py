"""The clocks. Wall-clock time never decides anything: the host's clock may jump."""

import time


def boottime() -> float:
    """Seconds since boot, counting time asleep, so that a lease does not outlive a suspended machine (Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
