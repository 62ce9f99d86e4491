"""Rules behind gates: what is demanded of a candidate, and the verdict. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from wandb_airflow_provider.rules.age import AgeRule
from wandb_airflow_provider.rules.combination import AllOf, AnyOf
from wandb_airflow_provider.rules.evidence import Demand, Evidence, RunEvidence, TableData
from wandb_airflow_provider.rules.metric import MetricRule
from wandb_airflow_provider.rules.outcome import Outcome
from wandb_airflow_provider.rules.paired import PairedRule
from wandb_airflow_provider.rules.parsing import load_rules, parse_rule, parse_rules, rules_schema
from wandb_airflow_provider.rules.rule import Rule
from wandb_airflow_provider.rules.table import TableRule
from wandb_airflow_provider.rules.verdict import Verdict, evaluate

__all__ = [
    "AgeRule",
    "AllOf",
    "AnyOf",
    "Demand",
    "Evidence",
    "MetricRule",
    "Outcome",
    "PairedRule",
    "Rule",
    "RunEvidence",
    "TableData",
    "TableRule",
    "Verdict",
    "evaluate",
    "load_rules",
    "parse_rule",
    "parse_rules",
    "rules_schema",
]
