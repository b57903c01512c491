"""The settings that the peer is measured with. (What it needs is downloaded only when the benchmark asks for it.)"""

from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from bench.debezium_worker import (
    CLASSES,
    CONNECTORS,
    HEADERS,
    POM,
    TLS,
    TUNED_CONNECTOR,
    TUNED_WORKER,
    as_properties,
    connector_settings,
    worker_settings,
)
from outboxd.model import TableNames
from outboxd.sinks.kafka.message import RESERVED
from outboxd.store.schema import tables

MAVEN: Final = "{http://maven.apache.org/POM/4.0.0}"
ROUTER: Final = "transforms.outbox."


def test_the_pom_names_what_the_worker_passes() -> None:
    """A version, or a property of which `provide` sets the value."""
    given = {"${kafka.version}", "${debezium.version}"}
    versions = {
        dependency.findtext(f"{MAVEN}artifactId"): dependency.findtext(f"{MAVEN}version")
        for dependency in ElementTree.parse(POM).iter(f"{MAVEN}dependency")
    }
    assert versions["connect-runtime"] == "${kafka.version}"
    assert versions["debezium-connector-${debezium.connector}"] == "${debezium.version}"
    assert all(version in given or (version and version[0].isdigit()) for version in versions.values())
    assert set(CONNECTORS) == set(CLASSES) == set(TLS) == {"mysql", "mariadb"}


@pytest.mark.parametrize("product", CONNECTORS)
def test_its_messages_are_made_of_the_columns_of_ours(product: str) -> None:
    """The router looks for columns that the table has, and makes the headers that outboxd makes."""
    settings = connector_settings(product, 3306, "shop", Path("/there"), tuned=False)
    columns = {column.name for column in tables(TableNames()).events.columns}
    named = {key.removeprefix(ROUTER): value for key, value in settings.items() if key.startswith(ROUTER)}
    fields = {value for key, value in named.items() if key.startswith("table.field.") or key == "route.by.field"}
    assert fields == {"event_id", "aggregate_id", "event_type", "payload", "topic"}
    assert fields <= columns
    assert named["table.fields.additional.placement"].split(",") == [f"{header}:header" for header in HEADERS]
    assert set(HEADERS) == RESERVED - {"trace_id", "span_id"}  # these only where a row has them


@pytest.mark.parametrize("product", CONNECTORS)
def test_tuned_differs_by_what_is_said_to_be_tuned(product: str) -> None:
    """Nothing else is changed on the way, and a file of properties holds all of it."""
    place = Path("/there")
    plain, tuned = (connector_settings(product, 3306, "shop", place, tuned=tuned) for tuned in (False, True))
    assert tuned == plain | TUNED_CONNECTOR
    assert not TUNED_CONNECTOR.keys() & plain.keys()
    worker, fast = (worker_settings("127.0.0.1:9092", 8083, place, tuned=tuned) for tuned in (False, True))
    assert fast == worker | TUNED_WORKER
    assert not TUNED_WORKER.keys() & worker.keys()
    lines = as_properties(tuned).splitlines()
    assert dict(line.split("=", 1) for line in lines) == tuned
