"""Which layer wins, what each accepts, and how sources take what stands at the top level."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from outboxd.config import Settings, load
from outboxd.errors import ConfigError
from outboxd.model import TableNames

ENOUGH = {"OUTBOXD_DATABASE_URL": "mysql://u:p@db/shop", "OUTBOXD_KAFKA__BOOTSTRAP_SERVERS": "k1:9092, k2:9092"}


def _load(toml: str, tmp_path: Path, environ: Mapping[str, str] = ENOUGH, **flags: str) -> Settings:
    file = tmp_path / "outboxd.toml"
    file.write_text(toml)
    return load(file, flags, environ=environ)


def test_two_variables_are_enough() -> None:
    """The database and the brokers; everything else has a default, and there is one source."""
    settings = load(None, {}, environ=ENOUGH)
    (source,) = settings.sources.values()
    assert source.database.url.get_secret_value() == "mysql+pymysql://u:p@db/shop"
    assert source.kafka.bootstrap_servers == ("k1:9092", "k2:9092")
    assert (source.relay.poll_interval, source.retention.sent, source.retention.dead_letters) == (0.05, 86_400, None)


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Key by key, within one section."""
    toml = '[retry]\nmax_attempts = 4\nbase_delay = "1s"\nstrategy = "fixed"'
    environ = ENOUGH | {"OUTBOXD_RETRY__BASE_DELAY": "2s", "OUTBOXD_RETRY__MAX_ATTEMPTS": "5"}
    retry = _load(toml, tmp_path, environ, **{"retry.max_attempts": "6"}).sources["default"].retry
    assert (retry.strategy, retry.base_delay, retry.max_attempts) == ("fixed", 2.0, 6)


@pytest.mark.parametrize(
    ("name", "text", "section", "key", "value"),
    [
        ("OUTBOXD_RETRY__MAX_ATTEMPTS", "5", "retry", "max_attempts", 5),
        ("OUTBOXD_RETRY__JITTER", "0.25", "retry", "jitter", 0.25),
        ("OUTBOXD_RETRY__JITTER", "1", "retry", "jitter", 1.0),
        ("OUTBOXD_RETRY__JITTER", "true", "retry", "jitter", 0.1),
        ("OUTBOXD_RETRY__JITTER", "off", "retry", "jitter", 0.0),
        ("OUTBOXD_RELAY__BATCH_BYTES", "4MiB", "relay", "batch_bytes", 2**22),
        ("OUTBOXD_RELAY__BATCH_BYTES", "4194304", "relay", "batch_bytes", 2**22),
        ("OUTBOXD_RETENTION__SENT", "never", "retention", "sent", None),
        ("OUTBOXD_RETENTION__SENT", "0s", "retention", "sent", 0.0),
        ("OUTBOXD_KAFKA__DELIVERY_TIMEOUT", "3s", "kafka", "delivery_timeout", 3.0),
        ("OUTBOXD_SINK__KIND", "stdout", "sink", "kind", "stdout"),
    ],
)
def test_the_environment_s_text_becomes_the_key_s_type(
    name: str, text: str, section: str, key: str, value: object
) -> None:
    """All of it is text there, so numbers and booleans are read from it."""
    source = load(None, {}, environ=ENOUGH | {name: text}).sources["default"]
    assert getattr(getattr(source, section), key) == value


@pytest.mark.parametrize("jitter", [("true", 0.1), ("false", 0.0), ("1", 1.0), ("0", 0.0), ("0.5", 0.5)])
def test_jitter_is_a_share_or_a_switch(jitter: tuple[str, float], tmp_path: Path) -> None:
    """In TOML, true and false stand for 0.1 and 0."""
    assert _load(f"[retry]\njitter = {jitter[0]}", tmp_path).sources["default"].retry.backoff.jitter == jitter[1]


def test_daemon_keys_come_from_the_environment_too() -> None:
    """Port 0, a switch, a level."""
    environ = ENOUGH | {"OUTBOXD_HTTP__PORT": "0", "OUTBOXD_HTTP__ENABLED": "no", "OUTBOXD_LOG__LEVEL": "debug"}
    settings = load(None, {}, environ=environ)
    assert (settings.http.port, settings.http.enabled, settings.log.level) == (0, False, "debug")


def test_a_secret_is_read_from_the_file_that_a_variable_names(tmp_path: Path) -> None:
    """Less the one newline at its end; more are part of the secret."""
    (tmp_path / "url").write_text("mysql+mysqldb://u:p@db/shop\n")
    (tmp_path / "password").write_text("pass word\n\n")
    environ = {
        "OUTBOXD_DATABASE_URL_FILE": str(tmp_path / "url"),
        "OUTBOXD_KAFKA__BOOTSTRAP_SERVERS": "k:9092",
        "OUTBOXD_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "OUTBOXD_KAFKA__SASL_MECHANISM": "PLAIN",
        "OUTBOXD_KAFKA__SASL_USERNAME": "u",
        "OUTBOXD_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "password"),
    }
    source = load(None, {}, environ=environ).sources["default"]
    assert source.database.url.get_secret_value() == "mysql+mysqldb://u:p@db/shop"
    assert source.kafka.sasl_password.get_secret_value() == "pass word\n"


def test_empty_variables_count_as_not_set() -> None:
    """Compose files and unit files pass on what is not set as empty."""
    environ = ENOUGH | {"OUTBOXD_RETRY__MAX_ATTEMPTS": "", "OUTBOXD_DATABASE_URL_FILE": "", "OUTBOXD_NONSENSE": ""}
    assert load(None, {}, environ=environ).sources["default"].retry.max_attempts == 3


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_no_keys() -> None:
    """A pod beside services named outboxd and outboxd-metrics must start."""
    kubernetes = {
        "OUTBOXD_SERVICE_HOST": "10.0.0.7",
        "OUTBOXD_SERVICE_PORT": "9464",
        "OUTBOXD_SERVICE_PORT_METRICS": "9464",
        "OUTBOXD_PORT": "tcp://10.0.0.7:9464",
        "OUTBOXD_PORT_9464_TCP": "tcp://10.0.0.7:9464",
        "OUTBOXD_PORT_9464_TCP_ADDR": "10.0.0.7",
        "OUTBOXD_METRICS_SERVICE_HOST": "10.0.0.8",
        "OUTBOXD_METRICS_PORT": "tcp://10.0.0.8:9464",
        "OUTBOXD_METRICS_PORT_9464_TCP_PROTO": "tcp",
    }
    assert load(None, {}, environ=ENOUGH | kubernetes).http.port == 9464


def test_the_brokers_may_be_missing_where_no_sink_is_needed() -> None:
    """For commands that only use the database, and for sinks other than Kafka."""
    url = {"OUTBOXD_DATABASE_URL": ENOUGH["OUTBOXD_DATABASE_URL"]}
    assert load(None, {}, environ=url, need_sink=False).sources["default"].kafka.bootstrap_servers == ()
    assert load(None, {"sink.kind": "stdout"}, environ=url).sources["default"].sink.kind == "stdout"
    with pytest.raises(ConfigError, match=r"^kafka\.bootstrap_servers: is missing"):
        load(None, {}, environ=url)


def test_sources_take_the_top_level_and_change_what_they_name(tmp_path: Path) -> None:
    """Key by key, wherever either comes from; what one changes the other does not see."""
    toml = """
        [retry]
        max_attempts = 7
        interval = "2s"
        [sources.orders]
        database.url = "mysql://u:p@orders/shop"
        [sources.billing]
        retry.max_attempts = 9
        tables.events = "billing_events"
    """
    environ = ENOUGH | {"OUTBOXD_SOURCES__ORDERS__RETRY__INTERVAL": "3s"}
    sources = _load(toml, tmp_path, environ).sources
    assert list(sources) == ["orders", "billing"]
    assert (sources["orders"].retry.max_attempts, sources["orders"].retry.interval) == (7, 3.0)
    assert (sources["billing"].retry.max_attempts, sources["billing"].retry.interval) == (9, 2.0)
    assert (sources["orders"].database.place, sources["billing"].database.place) == ("orders:3306/shop", "db:3306/shop")
    assert sources["orders"].kafka == sources["billing"].kafka


def test_a_source_can_come_from_the_environment_alone() -> None:
    """`OUTBOXD_SOURCES__NAME__...` declares it."""
    environ = {
        "OUTBOXD_KAFKA__BOOTSTRAP_SERVERS": "k:9092",
        "OUTBOXD_SOURCES__ORDERS__DATABASE__URL": "mysql://u:p@db/shop",
    }
    assert list(load(None, {}, environ=environ).sources) == ["orders"]


def test_tables_are_named_after_the_events_table() -> None:
    """Where only it is changed; a name that is given stays."""
    given = {"tables.events": "shop_outbox", "tables.lanes": "my_lanes"}
    names = load(None, given, environ=ENOUGH).sources["default"].tables.names
    assert names == TableNames("shop_outbox", "shop_outbox_deadletters", "shop_outbox_instances", "my_lanes")
    assert load(None, {}, environ=ENOUGH).sources["default"].tables.names == TableNames()


def test_timeouts_follow_from_the_lease() -> None:
    """Unless they are given: half of it to deliver, 0.15 to close, a tenth as margin."""
    source = load(None, {"lease.ttl": "20s"}, environ=ENOUGH).sources["default"]
    assert (source.delivery_seconds, source.close_seconds, source.lease.margin) == (10.0, 3.0, 2.0)
    given = {"lease.ttl": "20s", "kafka.delivery_timeout": "4s", "kafka.close_timeout": "1s"}
    source = load(None, given, environ=ENOUGH).sources["default"]
    assert (source.delivery_seconds, source.close_seconds) == (4.0, 1.0)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("mysql://u:p%40@db/shop", "mysql+pymysql://u:p%40@db/shop"),
        ("mariadb://u@db/shop", "mysql+pymysql://u@db/shop"),
        ("mysql+mysqldb://u@db:3307/shop", "mysql+mysqldb://u@db:3307/shop"),
        ("mysql:///shop?unix_socket=/run/mysqld.sock", "mysql+pymysql:///shop?unix_socket=%2Frun%2Fmysqld.sock"),
    ],
)
def test_urls_get_their_driver(given: str, used: str) -> None:
    """PyMySQL unless another is named; passwords keep their signs."""
    url = load(None, {"database.url": given}, environ=ENOUGH).sources["default"].database.url
    assert url.get_secret_value() == used


def test_files_of_tls_must_be_there(tmp_path: Path) -> None:
    """A path that exists is taken as it is."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    assert load(None, {"database.tls_ca": str(ca)}, environ=ENOUGH).sources["default"].database.tls_ca == ca


def test_what_was_loaded_cannot_be_changed() -> None:
    """Workers share it."""
    settings = load(None, {}, environ=ENOUGH)
    with pytest.raises(ValueError, match="frozen"):
        settings.sources["default"].retry.max_attempts = 9  # type: ignore[misc]
