"""The binary log as a doorbell: a replication client that hears of inserts as they are committed."""

from outboxd.store.binlog.doorbell import BinlogDoorbell

__all__ = ["BinlogDoorbell"]
