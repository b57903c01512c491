"""Where metrics go: a page for Prometheus and, when configured, OTLP."""

import platform
from typing import Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from outboxd import __version__
from outboxd.telemetry import otlp
from outboxd.telemetry.logs import LogHandler
from outboxd.telemetry.metrics import Instruments, Metrics, observe

SHUTDOWN_TIMEOUT: Final = 2.0
"""Seconds that the last OTLP export may take."""


class Telemetry:
    """The metrics of a process: one `Metrics` per source, the page that shows them all, and the OTLP export.

    `instance` is the process's name in OTLP; `otlp_endpoint` a URL such as `http://collector:4318`, exported to every
    `otlp_interval` seconds by a thread, so that a dead collector is nobody else's trouble; `log` tells of lost lines.
    Raises ConfigError when OTLP is asked for and its extra is not installed.
    """

    def __init__(
        self,
        instance: str,
        otlp_endpoint: str | None = None,
        otlp_interval: float = 60.0,
        log: LogHandler | None = None,
    ) -> None:
        self._registry = CollectorRegistry()
        readers: list[MetricReader] = [
            PrometheusMetricReader(registry=self._registry, disable_target_info=True, scope_info_enabled=False)
        ]
        if otlp_endpoint is not None:
            readers.append(otlp.reader(otlp_endpoint, otlp_interval))
        self._provider = MeterProvider(
            readers,
            Resource.create(
                {"service.name": "outboxd", "service.version": __version__, "service.instance.id": instance}
            ),
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        meter = self._provider.get_meter("outboxd", __version__)
        self._instruments = Instruments.of(meter)
        self._sources: dict[str, Metrics] = {}
        observe(meter, lambda: [source.gauges for source in list(self._sources.values())])
        _observe_process(meter, log)
        ProcessCollector(registry=self._registry)

    def source(self, name: str) -> Metrics:
        """The metrics of this source; the same object for the same name."""
        if name not in self._sources:
            self._sources[name] = Metrics(name, self._instruments)
        return self._sources[name]

    def render(self) -> tuple[bytes, str]:
        """The page for Prometheus, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def shutdown(self) -> None:
        """Exports a last time; returns within SHUTDOWN_TIMEOUT, also when nobody listens. Blocks: use a thread."""
        self._provider.shutdown(timeout_millis=SHUTDOWN_TIMEOUT * 1000)


def _observe_process(meter: Meter, log: LogHandler | None) -> None:
    build = {"version": __version__, "python": platform.python_version()}

    def build_info(_: CallbackOptions) -> list[Observation]:
        return [Observation(1, build)]

    def lost_lines(_: CallbackOptions) -> list[Observation]:
        return [] if log is None else [Observation(log.lost)]

    meter.create_observable_gauge("outboxd.build.info", [build_info], "", "Always 1; carries the versions")
    meter.create_observable_counter("outboxd.log.lost", [lost_lines], "{line}", "Log lines that could not be written")
