"""The relay: reads batches from free lanes, has the sink deliver them, and settles what became of them."""

from outboxd.workers.relay.relay import Limits, Relay

__all__ = ["Limits", "Relay"]
