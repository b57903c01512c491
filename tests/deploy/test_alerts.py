"""Prometheus's configuration and the alerts, judged by Prometheus itself."""

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "alerts.yml"
CASES = Path(__file__).with_name("alerts.test.yml")


def run(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode()


def rules() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_prometheus_accepts_its_configuration_and_the_alerts(promtool: Path) -> None:
    """`promtool check config` accepts deploy/prometheus.yml together with the alerts it loads."""
    code, output = run(promtool, "check", "config", "--lint-fatal", ROOT / "deploy" / "prometheus.yml")
    assert code == 0, output
    assert f"{len(rules())} rules found" in output


def test_alerts_fire_when_they_should_and_only_then(promtool: Path, tmp_path: Path) -> None:
    """Played against series of good and of bad days, each alert is silent on the good ones and fires on its bad one."""
    cases = CASES.read_text()
    (tmp_path / "cases.yml").write_text(cases.replace("ALERTS", str(ALERTS)))
    code, output = run(promtool, "test", "rules", tmp_path / "cases.yml")
    assert code == 0, output
    expected = {
        case["alertname"]: "exp_alerts" in case
        for test in yaml.safe_load(cases)["tests"]
        for case in sorted(test["alert_rule_test"], key=lambda case: "exp_alerts" in case)
    }
    assert expected == {rule["alert"]: True for rule in rules()}, "every alert needs a day on which it fires"


def test_alerts_look_at_metrics_that_exist() -> None:
    """Every metric that an alert asks for is documented, and so exists."""
    documented = set(re.findall(r"`(outboxd?_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    for rule in rules():
        asked = set(re.findall(r"\boutboxd?_\w+", rule["expr"]))
        assert asked <= documented, rule["alert"]
