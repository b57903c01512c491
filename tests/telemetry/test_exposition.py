"""Where metrics go: Prometheus accepts the page, a collector gets the same, and both are documented."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from prometheus_client.parser import text_string_to_metric_families

from outboxd.errors import ConfigError
from outboxd.model import Status
from outboxd.telemetry.exposition import Telemetry
from outboxd.telemetry.logs import LogHandler
from outboxd.telemetry.otlp import ReportingExporter
from tests.end_to_end.daemon import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


class Collector(ThreadingHTTPServer):
    """A real HTTP server that takes OTLP exports."""

    def __init__(self) -> None:
        self.exports: list[tuple[str, ExportMetricsServiceRequest]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.exports.append((self.path, ExportMetricsServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, args=(0.01,))
    thread.start()
    yield collector
    collector.shutdown()
    collector.server_close()
    thread.join()


class ScriptedExporter(MetricExporter):
    """Answers `ok` and `fail` in turn."""

    def __init__(self, answers: str) -> None:
        super().__init__()
        self.answers = iter(answers.split())

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        return MetricExportResult.SUCCESS if next(self.answers) == "ok" else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        pass


def use_everything(telemetry: Telemetry) -> None:
    for source in ("orders", "billing"):
        metrics = telemetry.source(source)
        metrics.processed(1000)
        metrics.published(997)
        metrics.failed(3, "message_too_large")
        metrics.retried(1)
        metrics.held(1)
        metrics.dead_lettered(2, "message_too_large")
        metrics.duplicates_suspected(1)
        metrics.worker_failed("relay")
        metrics.processing_duration(0.02)
        metrics.latency(0.004)
        metrics.queue_size({Status.NEW: 5})
        metrics.oldest_age(0.3)
        metrics.lanes_owned(64)
        metrics.in_flight(1000, 250_000)
        metrics.doorbell_rang()
        metrics.doorbell_connected(True)
    telemetry.source("orders").paused("outage")
    telemetry.source("orders").topics_paused({"unknown_topic": 2})


def check_metrics(promtool: Path, page: bytes) -> tuple[int, bytes]:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout


def test_prometheus_accepts_the_page_without_a_complaint(promtool: Path) -> None:
    """`promtool check metrics` has nothing to say about the page, empty or full; about a bad page it has."""
    telemetry = Telemetry("test", log=LogHandler(2))
    assert check_metrics(promtool, telemetry.render()[0]) == (0, b"")
    use_everything(telemetry)
    page, content_type = telemetry.render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert check_metrics(promtool, page) == (0, b"")
    assert check_metrics(promtool, page + b"undocumented_total 1\n")[0] != 0
    telemetry.shutdown()


class Row(NamedTuple):
    """A metric as the document describes it."""

    name: str
    prometheus: str
    type: str
    unit: str
    attributes: frozenset[str]


def documented() -> set[Row]:
    rows = set()
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if re.match(r"\| `outboxd?\.", line):
            name, prometheus, kind, unit, attributes, meaning, _ = cells
            assert meaning, f"{name} has no meaning"
            rows.add(Row(name, prometheus, kind, unit, frozenset(attributes.split(", ") if attributes else [])))
    return rows


def test_the_document_has_every_metric_as_it_is(collector: Collector) -> None:
    """docs/metrics.md names exactly the metrics there are: both names, type, unit and attributes."""
    telemetry = Telemetry("test", otlp_endpoint=collector.url, log=LogHandler(2))
    use_everything(telemetry)
    page, _ = telemetry.render()
    telemetry.shutdown()

    on_the_page = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type): family
        for family in text_string_to_metric_families(page.decode())
        if not family.name.startswith("process_")
    }
    rows = documented()
    assert {(row.prometheus, row.type) for row in rows} == set(on_the_page)
    for row in rows:
        labels = {key for sample in on_the_page[row.prometheus, row.type].samples for key in sample.labels}
        assert labels - {"le"} == row.attributes, row.name

    [(_, export)] = until(lambda: collector.exports, "an export")
    metrics = export.resource_metrics[0].scope_metrics[0].metrics
    assert {(row.name, row.unit) for row in rows} == {(metric.name, metric.unit) for metric in metrics}


@pytest.mark.parametrize("path", ["", "/", "/v1/metrics", "/tenant/7"])
def test_the_last_counts_reach_the_collector_at_shutdown(collector: Collector, path: str) -> None:
    """Shutting down exports once more; an endpoint without a path gets OTLP's own."""
    telemetry = Telemetry("host-1", otlp_endpoint=collector.url + path)
    telemetry.source("orders").published(42)
    telemetry.shutdown()
    [(target, export)] = until(lambda: collector.exports, "an export")
    assert target == (path if len(path) > 1 else "/v1/metrics")
    resource = {item.key: item.value.string_value for item in export.resource_metrics[0].resource.attributes}
    assert (resource["service.name"], resource["service.instance.id"]) == ("outboxd", "host-1")
    [published] = [
        metric
        for metric in export.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "outbox.events.published"
    ]
    assert [point.as_int for point in published.sum.data_points] == [42]


def test_a_dead_collector_delays_neither_counting_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that accepts connections and never answers: the page works on, and shutdown does not wait for it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "60")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        telemetry = Telemetry("test", f"http://127.0.0.1:{silent.getsockname()[1]}", otlp_interval=0.01)
        connection, _ = silent.accept()  # an export is under way
        telemetry.source("orders").published(1)
        assert b'outbox_events_published_total{source="orders"} 1.0' in telemetry.render()[0]
        started = time.monotonic()
        telemetry.shutdown()
        assert time.monotonic() - started < 30
        connection.close()


def test_a_dead_collector_is_reported_once_at_each_change() -> None:
    """Exports that fail for a while leave one line in the log, and one more when they work again."""
    exporter = ReportingExporter(ScriptedExporter("ok fail fail fail ok ok fail"))
    with structlog.testing.capture_logs() as lines:
        for _ in range(7):
            exporter.export(MetricsData([]))
    assert [line["log_level"] for line in lines] == ["warning", "info", "warning"]


def test_a_collector_that_is_not_there_leaves_one_line_in_the_log() -> None:
    """The exporter's own line per attempt is not written at level info."""
    program = """
import time
from outboxd.telemetry.exposition import Telemetry
from outboxd.telemetry.logs import configure
telemetry = Telemetry("test", "http://127.0.0.1:9", otlp_interval=0.05, log=configure())
time.sleep(1)  # several exports
telemetry.shutdown()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "0.1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert "metrics are not exported by OTLP" in line


def test_otlp_without_its_extra_says_what_to_install() -> None:
    """Configured OTLP without the exporter is refused with the cure."""
    program = """
import sys
sys.modules["opentelemetry.exporter.otlp"] = None
from outboxd.errors import ConfigError
from outboxd.telemetry.exposition import Telemetry
Telemetry("test")
try:
    Telemetry("test", "http://127.0.0.1:4318")
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert "install outboxd[otlp]" in done.stdout, done.stderr


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://collector:4317", "http://"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    """An endpoint without http or https, or without a host, is refused with an example."""
    with pytest.raises(ConfigError, match="expected one such as http://collector:4318"):
        Telemetry("test", endpoint)


def test_lost_log_lines_are_counted() -> None:
    """What the log could not write is on the page."""
    handler = LogHandler(-1)
    handler.lost = 3
    telemetry = Telemetry("test", log=handler)
    assert b"outboxd_log_lost_total 3.0" in telemetry.render()[0]
    telemetry.shutdown()
