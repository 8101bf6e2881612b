"""The dashboard and the alerts use the metrics that exist, all of them, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from workers.metrics import FLEET, PROCESS

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "haulage.json"
EXPORTED = {**PROCESS, **FLEET}


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """All of PromQL in both files, by the title of its panel or the name of its alert."""
    panels = {
        f"{each['title']} {target['refId']}": target["expr"]
        for each in dashboard()["panels"]
        for target in each["targets"]
    }
    return {**panels, **{each["alert"]: each["expr"] for each in rules()}}


def metrics_in(expression: str) -> set[str]:
    """The metrics an expression reads; of a histogram the family."""
    found = set()
    for name in re.findall(r"\bhaulage_\w+", expression):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        found.add(family if family in EXPORTED and EXPORTED[family].kind == "histogram" else name)
    return found


def test_they_read_every_exported_metric_and_nothing_else() -> None:
    assert set().union(*map(metrics_in, expressions().values())) == set(EXPORTED)


def test_expressions_use_labels_that_their_metrics_have() -> None:
    for title, text in expressions().items():
        known = {label for name in metrics_in(text) for label in EXPORTED[name].labels} | {"le"}
        grouped = {name.strip() for names in re.findall(r"by \(([^)]*)\)", text) for name in names.split(",")}
        matched = {name for inner in re.findall(r"{([^}]*)}", text) for name in re.findall(r"(\w+)\s*=", inner)}

        assert grouped | matched <= known, title
        assert text.count("(") == text.count(")"), title


def test_metrics_of_the_fleet_are_never_added_up_over_machines() -> None:
    """Each machine exports the same figure: a sum over machines would count it once for each of them."""
    for title, text in expressions().items():
        for name in re.findall(r"(\w+)[^()]*\([^()]*\bhaulage_fleet_", text):
            assert name in ("max", "rate", "increase", "by"), title


def test_panels_neither_overlap_nor_leave_the_page() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= mine
    assert len({each["id"] for each in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_every_alert_has_a_severity_and_says_what_is_wrong() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical"), rule
        assert rule["annotations"]["summary"], rule


def test_the_scrape_example_names_the_rules_beside_it() -> None:
    example = yaml.safe_load((DEPLOY / "prometheus" / "scrape.yml").read_text())

    assert [(DEPLOY / "prometheus" / each).is_file() for each in example["rule_files"]] == [True]
    assert example["scrape_configs"][0]["static_configs"][0]["targets"]
