"""The binary log as a doorbell: a replication client that hears of inserts as they are committed."""

from outboxd.store.driver import import_pymysql

import_pymysql()

from outboxd.store.binlog.doorbell import BinlogDoorbell  # noqa: E402 - the modules below import PyMySQL as it is

__all__ = ["BinlogDoorbell"]
