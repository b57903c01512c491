"""outboxd delivers the rows of a MySQL outbox table to Kafka: every one, in order per aggregate."""

from importlib.metadata import version

__version__ = version("outboxd")
