"""The export by OTLP, which needs the extra `otlp`."""

from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)

from outboxd.errors import ConfigError

PATH: Final = "/v1/metrics"

log = structlog.get_logger(__name__)


def reader(endpoint: str, interval: float) -> MetricReader:
    """Exports to `endpoint` every `interval` seconds, in a thread. Raises ConfigError when that cannot be."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "an OTLP endpoint is configured, but the exporter is missing: install outboxd[otlp]"
        ) from error
    exporter = OTLPMetricExporter(_url(endpoint))
    return PeriodicExportingMetricReader(ReportingExporter(exporter), export_interval_millis=interval * 1000)


class ReportingExporter(MetricExporter):
    """Says once when exports begin to fail and once when they work again; the exporter itself repeats itself."""

    def __init__(self, exporter: MetricExporter) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self._exporter = exporter
        self._failing = False

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Exports, within the exporter's own time-out."""
        result = self._exporter.export(metrics_data, timeout_millis, **kwargs)
        failing = result is not MetricExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("metrics are not exported by OTLP: the collector cannot be reached or refuses them")
        elif self._failing and not failing:
            log.info("metrics are exported by OTLP again")
        self._failing = failing
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Passes it on."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Passes it on."""
        self._exporter.shutdown(timeout_millis, **kwargs)


def _url(endpoint: str) -> str:
    url = urlsplit(endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ConfigError("the OTLP endpoint is not a URL: expected one such as http://collector:4318")
    return url._replace(path=PATH).geturl() if url.path in {"", "/"} else endpoint
