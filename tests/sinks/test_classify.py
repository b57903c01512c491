"""What the Kafka client's errors mean."""

import ssl

import pytest
from aiokafka import errors as kafka

from outboxd.errors import FailureKind
from outboxd.sinks.kafka.classify import TABLE, classify

PERMANENT, CAPPED, OUTAGE, PAUSE, REBUILD = FailureKind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kafka.MessageSizeTooLargeError(), PERMANENT),
        (kafka.RecordListTooLargeError(), PERMANENT),
        (kafka.InvalidTopicError(), PERMANENT),
        (kafka.InvalidTimestampError(), PERMANENT),
        (kafka.UnsupportedCodecError(), PERMANENT),
        (kafka.UnknownTopicOrPartitionError(), PAUSE),
        (kafka.CorruptRecordException(), CAPPED),
        (kafka.NotLeaderForPartitionError(), OUTAGE),
        (kafka.LeaderNotAvailableError(), OUTAGE),
        (kafka.NotEnoughReplicasError(), OUTAGE),
        (kafka.NotEnoughReplicasAfterAppendError(), OUTAGE),
        (kafka.RequestTimedOutError(), OUTAGE),
        (kafka.KafkaTimeoutError(), OUTAGE),
        (kafka.KafkaConnectionError(), OUTAGE),
        (kafka.NodeNotReadyError(), OUTAGE),
        (kafka.KafkaStorageError(), OUTAGE),
        (TimeoutError(), OUTAGE),
        (ConnectionResetError(), OUTAGE),
        (kafka.TopicAuthorizationFailedError(), PAUSE),
        (kafka.ClusterAuthorizationFailedError(), PAUSE),
        (kafka.SaslAuthenticationFailed(), PAUSE),
        (kafka.AuthenticationFailedError(), PAUSE),
        (ssl.SSLCertVerificationError(), PAUSE),
        (kafka.OutOfOrderSequenceNumber(), REBUILD),
        (kafka.UnknownProducerId(), REBUILD),
        (kafka.InvalidProducerEpoch(), REBUILD),
        (kafka.ProducerFenced(), REBUILD),
        (kafka.ProducerClosed(), REBUILD),
        (kafka.KafkaError(), REBUILD),
        (RuntimeError(), REBUILD),
    ],
)
def test_each_error_has_its_kind(error: Exception, kind: FailureKind) -> None:
    """As the design lists them."""
    assert classify(error).kind is kind


def test_a_tls_error_behind_a_lost_connection_is_found() -> None:
    """aiokafka wraps it; the person on call needs the cause."""
    error = kafka.KafkaConnectionError()
    error.__cause__ = ssl.SSLError()
    assert (classify(error).kind, classify(error).code) == (PAUSE, "tls")


def test_codes_are_short_words_and_texts_name_the_topic() -> None:
    """The code is a metric's label and a dead letter's reason."""
    for _, code, text in TABLE.values():
        assert code.replace("_", "").isalpha()
        assert code.islower()
        assert len(code) <= 64
        assert text
    assert classify(kafka.UnknownTopicOrPartitionError(), "orders").text.startswith("orders: ")


def _subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(_subclasses(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(_subclasses(kafka.KafkaError), key=lambda kind: kind.__name__))
def test_every_error_of_the_client_is_classified(kind: type[BaseException]) -> None:
    """Also those that no row of the table names: a kind, a code that metrics can carry, a sentence."""
    failure = classify(kind.__new__(kind), "orders")
    assert isinstance(failure.kind, FailureKind)
    assert failure.code.replace("_", "").isalpha()
    assert failure.text


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [(87, PERMANENT, "invalid_record"), (44, PAUSE, "policy_violation"), (43, PAUSE, "message_format")],
)
def test_answers_that_are_no_reason_for_a_new_producer(number: int, kind: FailureKind, code: str) -> None:
    """By their number in Kafka's protocol; the client itself does not know the first."""
    failure = classify(kafka.for_code(number)(), "orders")
    assert (failure.kind, failure.code) == (kind, code)
