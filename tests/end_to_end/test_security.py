"""A real broker with TLS, SASL and ACLs: what is wrong is said, no event pays for it, and it goes on once repaired."""

import datetime
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import Database
from tests.end_to_end.application import Ledger, fill
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka
from tests.servers.server import free_port

Count = Callable[..., int]

MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def certificate() -> tuple[str, str]:
    """A key and a certificate for 127.0.0.1, signed by itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), made.public_bytes(encoding).decode()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka) -> Iterator[tuple[Kafka, str, Path]]:
    """A broker of its own, the address of its secured listener, and its certificate. Without any Kafka, skipped."""
    assert kafka.running
    key, chain = certificate()
    ca = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.write_text(chain)
    broker, port = Kafka(), free_port()
    broker.settings["listeners"] += f",SECURED://127.0.0.1:{port}"
    broker.settings["advertised.listeners"] += f",SECURED://127.0.0.1:{port}"
    pem = {name: text.strip().replace("\n", "\\n") for name, text in (("key", key), ("chain", chain))}
    broker.settings |= {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secured.plain.sasl.jaas.config": f'{MODULE} user_outboxd="right" user_other="right";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": pem["key"],
        "ssl.keystore.certificate.chain": pem["chain"],
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with broker:
        yield broker, f"127.0.0.1:{port}", ca


def allow(broker: Kafka, topic: str, operation: AclOperation) -> None:
    """Grants the daemon's user the operation on a topic."""
    admin = broker.admin()
    binding = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:outboxd", "*", operation, AclPermissionType.ALLOW
    )
    for answer in admin.create_acls([binding]).values():
        answer.result(30)


def the_daemon(outbox: Database, address: str, ca: Path, **settings: str) -> Daemon:
    """A daemon that speaks to the secured listener."""
    given = {
        "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__TLS_CA": str(ca),
        "KAFKA__SASL_MECHANISM": "PLAIN",
        "KAFKA__SASL_USERNAME": "outboxd",
        "KAFKA__SASL_PASSWORD": "right",
    }
    return Daemon(outbox.url, address, **(given | settings))


def test_a_permission_that_is_missing_and_then_granted(
    outbox: Database, secured: tuple[Kafka, str, Path], count: Count
) -> None:
    """TLS and SASL are right. Delivery pauses and names the cause; once the ACL is there it goes on by itself."""
    broker, address, ca = secured
    name = f"granted-{outbox.name}"
    broker.create_topic(name, 2)
    allow(broker, name, AclOperation.DESCRIBE)
    # Who may write to any topic may produce idempotently.
    allow(broker, "another", AclOperation.WRITE)
    ledger = Ledger()
    with outbox.connect() as connection:
        fill(connection, ledger, name, 100, 10)
    with the_daemon(outbox, address, ca) as running:
        running.wait_for("delivery.paused", cause="topic_authorization")
        assert "grant it WRITE" in running.get("/readyz").json()["paused"][f"default.{name}"]
        assert count("status = 0 AND attempt_count = 0") == 100
        allow(broker, name, AclOperation.WRITE)
        until(lambda: count("status = 1") == 100, "everything is sent")
        assert count("attempt_count > 0") == 0
        until(lambda: "paused" not in running.get("/readyz").json(), "nothing is paused any more")
    assert check(consume(broker.bootstrap, name), ledger) == Verdict(delivered=100)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"KAFKA__SASL_PASSWORD": "wrong"}, "sasl"),
        ({"KAFKA__TLS_CA": "another"}, "tls"),
    ],
    ids=["password", "certificate"],
)
def test_what_is_wrong_with_the_connection_is_said_and_costs_nothing(
    outbox: Database,
    secured: tuple[Kafka, str, Path],
    tmp_path: Path,
    count: Count,
    settings: dict[str, str],
    cause: str,
) -> None:
    """A wrong password, a certificate of an unknown authority."""
    _, address, ca = secured
    if "KAFKA__TLS_CA" in settings:
        another = tmp_path / "another.pem"
        another.write_text(certificate()[1])
        settings = {"KAFKA__TLS_CA": str(another)}
    with outbox.connect() as connection:
        fill(connection, Ledger(), "orders", 20, 2)
    with the_daemon(outbox, address, ca, **settings) as running:
        running.wait_for("delivery.paused", cause=cause)

        def sink() -> str:
            return str(running.get("/readyz").json()["checks"]["default.sink"])

        until(lambda: sink().startswith(f"{cause}: "), "readiness names the cause")
        assert running.stop() == 0
        assert "right" not in str(running.log)
        assert "wrong" not in str(running.log)
    assert count("status = 0 AND attempt_count = 0") == 20
