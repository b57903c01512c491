"""All scenarios: importing their modules lists them."""

from tests.chaos import broker
from tests.chaos.scenario import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario"]

GROUPS = (broker,)
