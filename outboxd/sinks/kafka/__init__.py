"""The Kafka sink: an idempotent aiokafka producer, fed with one record batch per partition."""

from outboxd.sinks.kafka.sink import KafkaSink

__all__ = ["KafkaSink"]
