"""A doorbell that is configured where its package is not installed."""

import sys

import pytest

from outboxd.composition import doorbell_of
from outboxd.config.load import load
from outboxd.errors import ConfigError


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cure. Without a doorbell, the package is not needed."""
    for name in [name for name in sys.modules if name.startswith(("pymysqlreplication", "outboxd.store.binlog"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymysqlreplication", None)
    flags = {"database.url": "mysql://outboxd@127.0.0.1/shop", "kafka.bootstrap_servers": "127.0.0.1:9092"}
    assert doorbell_of(load(None, flags, environ={}).sources["default"]) is None
    with pytest.raises(
        ConfigError, match=r"^doorbell.kind: .*pip install 'outboxd\[binlog\]', or write kind = \"none\""
    ):
        doorbell_of(load(None, flags | {"doorbell.kind": "binlog"}, environ={}).sources["default"])
