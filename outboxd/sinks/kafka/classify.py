"""What aiokafka's errors mean for an event. Its `.retriable` is not a classifier; this table is."""

from collections.abc import Mapping
from ssl import SSLError
from typing import Final

from aiokafka import errors as kafka

from outboxd.errors import Failure, FailureKind

PERMANENT, CAPPED, OUTAGE, PAUSE, REBUILD = FailureKind
"""In the order of their definition."""


class InvalidRecordError(kafka.BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka does not know this answer. (Kafka's protocol, error codes.)"""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker refuses the record."


kafka.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

TABLE: Final[Mapping[type[BaseException], tuple[FailureKind, str, str]]] = {
    # The record itself: it can never succeed.
    kafka.MessageSizeTooLargeError: (
        PERMANENT,
        "message_too_large",
        "the broker takes no message of this size; raise the topic's max.message.bytes, or store a reference",
    ),
    kafka.RecordListTooLargeError: (
        PERMANENT,
        "record_list_too_large",
        "the record batch is larger than the topic's segment; raise segment.bytes, or lower kafka.batch_size",
    ),
    kafka.InvalidTopicError: (PERMANENT, "invalid_topic", "the broker does not accept the topic's name; correct it"),
    kafka.InvalidTimestampError: (
        PERMANENT,
        "invalid_timestamp",
        "the broker refuses the message's time; look at message.timestamp.before/after.max.ms and the host's clock",
    ),
    InvalidRecordError: (
        PERMANENT,
        "invalid_record",
        "the broker refuses the record itself, by a schema or an interceptor; correct the row and requeue it",
    ),
    kafka.UnsupportedCodecError: (
        PERMANENT,
        "unsupported_codec",
        "the broker does not support kafka.compression as configured; choose another",
    ),
    # It may succeed later, but not for ever.
    kafka.CorruptRecordException: (CAPPED, "corrupt_record", "the broker found the record damaged on its way"),
    kafka.InvalidMessageError: (CAPPED, "corrupt_record", "the broker found the record damaged on its way"),
    # The broker or the way to it.
    kafka.NotLeaderForPartitionError: (OUTAGE, "not_leader", "the partition's leader is changing"),
    kafka.LeaderNotAvailableError: (OUTAGE, "leader_not_available", "the partition has no leader"),
    kafka.NotEnoughReplicasError: (
        OUTAGE,
        "not_enough_replicas",
        "fewer replicas are in sync than min.insync.replicas",
    ),
    kafka.NotEnoughReplicasAfterAppendError: (
        OUTAGE,
        "not_enough_replicas",
        "fewer replicas are in sync than min.insync.replicas",
    ),
    kafka.RequestTimedOutError: (OUTAGE, "request_timed_out", "the broker did not answer in time"),
    kafka.KafkaTimeoutError: (OUTAGE, "request_timed_out", "the broker did not answer in time"),
    kafka.KafkaConnectionError: (OUTAGE, "no_connection", "no broker can be reached"),
    kafka.NodeNotReadyError: (OUTAGE, "no_connection", "no broker can be reached"),
    kafka.KafkaUnavailableError: (OUTAGE, "no_connection", "no broker can be reached"),
    kafka.NoBrokersAvailable: (OUTAGE, "no_connection", "no broker can be reached"),
    kafka.StaleMetadata: (OUTAGE, "not_leader", "the partition's leader is changing"),
    kafka.KafkaStorageError: (OUTAGE, "broker_storage", "the broker cannot write to its disk"),
    kafka.BrokerNotAvailableError: (OUTAGE, "no_connection", "no broker can be reached"),
    kafka.CoordinatorNotAvailableError: (OUTAGE, "coordinator_not_available", "the coordinator is not available"),
    # Somebody has to repair it.
    kafka.UnknownTopicOrPartitionError: (
        PAUSE,
        "unknown_topic",
        "the topic does not exist; create it, or correct the rows' topic",
    ),
    kafka.TopicAuthorizationFailedError: (
        PAUSE,
        "topic_authorization",
        "the principal may not write to the topic; grant it WRITE and DESCRIBE",
    ),
    kafka.ClusterAuthorizationFailedError: (
        PAUSE,
        "cluster_authorization",
        "the principal may not produce idempotently; grant it IDEMPOTENT_WRITE on the cluster",
    ),
    kafka.TransactionalIdAuthorizationFailed: (PAUSE, "authorization", "the principal is not authorized"),
    kafka.SaslAuthenticationFailed: (PAUSE, "sasl", "the broker refuses kafka.sasl_username and kafka.sasl_password"),
    kafka.AuthenticationFailedError: (PAUSE, "sasl", "the broker refuses kafka.sasl_username and kafka.sasl_password"),
    kafka.UnsupportedSaslMechanismError: (PAUSE, "sasl", "the broker does not offer kafka.sasl_mechanism"),
    kafka.IllegalSaslStateError: (PAUSE, "sasl", "kafka.security_protocol does not fit the broker's listener"),
    kafka.PolicyViolationError: (PAUSE, "policy_violation", "a policy of the broker forbids the request"),
    kafka.UnsupportedForMessageFormatError: (
        PAUSE,
        "message_format",
        "the topic's message format is too old for headers; raise its message.format.version",
    ),
    kafka.SecurityDisabled: (PAUSE, "authorization", "security is disabled on the broker"),
    SSLError: (PAUSE, "tls", "the TLS handshake fails; look at kafka.tls_ca, kafka.tls_cert and the broker's name"),
    # The producer is of no more use.
    kafka.OutOfOrderSequenceNumber: (REBUILD, "out_of_order_sequence", "the producer's sequence is broken"),
    kafka.UnknownProducerId: (REBUILD, "unknown_producer_id", "the broker forgot the producer"),
    kafka.InvalidProducerIdMapping: (REBUILD, "unknown_producer_id", "the broker forgot the producer"),
    kafka.InvalidProducerEpoch: (REBUILD, "producer_fenced", "the producer's epoch has passed"),
    kafka.ProducerFenced: (REBUILD, "producer_fenced", "the producer's epoch has passed"),
    kafka.ProducerClosed: (REBUILD, "producer_closed", "the producer is closed"),
}


OF_TOPIC: Final = frozenset(
    {
        "unknown_topic",
        "topic_authorization",
        "not_enough_replicas",
        "not_leader",
        "leader_not_available",
        "broker_storage",
        "policy_violation",
        "message_format",
    }
)
"""Codes of failures that concern one topic: the others go on."""


def classify(error: BaseException, subject: str = "") -> Failure:
    """The failure behind an exception; `subject` (a topic) is named in its text. Unknown errors mean REBUILD."""
    causes = (error, error.__cause__, error.__context__)
    for cause in causes:
        if isinstance(cause, SSLError):
            error = cause
    for kind in type(error).__mro__:
        if kind in TABLE:
            failure_kind, code, text = TABLE[kind]
            return Failure(failure_kind, code, f"{subject}: {text}" if subject else text)
    if isinstance(error, TimeoutError):
        return Failure(OUTAGE, "request_timed_out", "the broker did not answer in time")
    if isinstance(error, OSError):
        return Failure(OUTAGE, "no_connection", "no broker can be reached")
    return Failure(REBUILD, "producer_error", f"unexpected {type(error).__name__} from the Kafka client")
