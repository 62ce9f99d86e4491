"""The result of a demo run as text for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wandb_airflow_provider.demo.airflow_records import DagRun
from wandb_airflow_provider.demo.ledger import AliasHolder, Decision, LedgerRun, WatchedAlias

__all__ = ["render_alias", "render_dag_run", "render_decisions", "render_tree", "render_verdict"]

_MAX_METRICS = 4
_MOST_DECISIONS = 6


def render_tree(roots: Iterable[LedgerRun], verdict: Mapping[str, Any] | None = None) -> list[str]:
    """
    Return one line per run, children below their parents, with state, duration and key metrics.

    :param verdict: Names the metrics to show first.
    """
    judged = _judged_metrics(verdict)
    rows = [row for root in roots for row in _rows(root, "", "", judged)]
    width = max((len(label) for label, _ in rows), default=0)
    return [f"  {label:<{width}}  {facts}".rstrip() for label, facts in rows]


def render_verdict(verdict: Mapping[str, Any]) -> list[str]:
    """Return the gate's verdict, rule by rule."""
    lines = [f"  {'passed' if verdict['passed'] else 'FAILED'}: {verdict['summary']}"]
    for outcome in verdict["outcomes"]:
        baseline = outcome["baseline_value"]
        against = f", baseline {_figure(baseline)}" if baseline is not None else ""
        mark = "ok  " if outcome["passed"] else "FAIL"
        lines.append(
            f"    {mark} {outcome['metric']} = {_figure(outcome['value'])} ({outcome['threshold']}{against})"
        )
    return lines


def render_alias(alias: WatchedAlias, before: AliasHolder | None, after: AliasHolder | None) -> list[str]:
    """Return who held the alias before and after."""
    return [
        f"  {alias}",
        f"    before: {before or 'nobody'}",
        f"    after:  {after or 'nobody'}{' (unchanged)' if before == after else ''}",
    ]


def render_decisions(decisions: Sequence[Decision]) -> list[str]:
    """Return the last few entries of an audit, oldest first, or that there are none."""
    shown = [one for one in decisions if not one.what.endswith(" intended")][-_MOST_DECISIONS:]
    if not shown:
        return ["  none"]
    what, by = (max(len(getattr(one, name)) for one in shown) for name in ("what", "by"))
    return [
        f"  {one.number:<4} {one.what:<{what}}  {one.by:<{by}}  {_cut(one.why)}".rstrip() for one in shown
    ]


def render_dag_run(run: DagRun | None, url: str | None) -> list[str]:
    """Return the state and the duration of a DAG run, or that there is none."""
    if run is None:
        return ["  no run"]
    took = f" in {run.duration:.1f} s" if run.duration is not None else ""
    return [f"  {run.dag_id} / {run.dag_run_id}: {run.state}{took}", f"  {url}"]


def _rows(run: LedgerRun, lead: str, below: str, judged: list[str]) -> Iterator[tuple[str, str]]:
    yield lead + run.name, _facts(run, judged)
    for position, child in enumerate(run.children):
        last = position == len(run.children) - 1
        yield from _rows(
            child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), judged
        )


def _facts(run: LedgerRun, judged: list[str]) -> str:
    def rank(name: str) -> tuple[int, bool, str]:
        return (judged.index(name) if name in judged else len(judged), "loss" not in name, name)

    facts = [f"{run.state:<9}", f"{run.duration:6.1f} s" if run.duration is not None else " " * 8]
    names = sorted(run.metrics, key=rank)[:_MAX_METRICS]
    facts += [f"{name}={_figure(run.metrics[name])}" for name in names]
    if run.reason:
        facts.append(f"({run.reason})")
    return "  ".join(facts)


def _judged_metrics(verdict: Mapping[str, Any] | None) -> list[str]:
    rules = [outcome["rule"] for outcome in verdict["outcomes"]] if verdict else []
    names = [rule["metric"] for rule in rules if "metric" in rule] + [
        rule["against"] for rule in rules if rule.get("against")
    ]
    return list(dict.fromkeys(names))


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 90 else text[:89] + "…"
