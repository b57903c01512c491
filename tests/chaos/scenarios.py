"""All scenarios: importing their modules lists them."""

from tests.chaos import broker, cluster, database, doorbell, events, instances, network
from tests.chaos.scenario import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario"]

GROUPS = (broker, cluster, network, database, doorbell, instances, events)
