"""``wandb-airflow trace``: the tree of a DAG run's W&B runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from wandb_airflow_provider.cli.own_output import own_output

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.run_tree import RunNode

__all__ = ["main", "render"]

_MOST_METRICS = 4


def main(argv: list[str]) -> int:
    """
    Print the tree of a DAG run.

    :return: 0 when it was printed, 1 when it could not be read, 2 for wrong arguments.
    """
    arguments = parser().parse_args(argv)
    with own_output():
        from wandb_airflow_provider.exceptions import WandbError
        from wandb_airflow_provider.hooks.run_tree import read_run_tree

    try:
        with own_output():
            roots = read_run_tree(
                arguments.dag_id,
                arguments.dag_run_id,
                wandb_conn_id=arguments.conn_id,
                entity=arguments.entity,
                project=arguments.project,
                follow=not arguments.alone,
            )
    except WandbError as error:
        print(f"wandb-airflow trace: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([root.to_json() for root in roots], indent=2, ensure_ascii=False))
    else:
        print("\n".join(render(roots)))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        prog="wandb-airflow trace",
        description="Print the W&B runs of a DAG run as a tree, with those of the DAG runs that it started.",
    )
    made.add_argument("dag_id", metavar="DAG_ID")
    made.add_argument(
        "dag_run_id", metavar="DAG_RUN_ID", help="for example manual__2026-03-01T00:00:00+00:00"
    )
    made.add_argument("--conn-id", default="wandb_default", help="Airflow connection (default: %(default)s)")
    made.add_argument("--entity", help="team or user (default: the connection's, else the key's)")
    made.add_argument("--project", help="W&B project (default: the connection's)")
    made.add_argument("--alone", action="store_true", help="leave out the DAG runs that this one started")
    made.add_argument("--json", action="store_true", help="print JSON, with all that is known of each run")
    return made


def render(roots: Iterable[RunNode]) -> list[str]:
    """Return one line per run, children below their parents, with state, duration, key metrics and address."""
    rows = [row for root in roots for row in _rows(root, "", "")]
    width = max((len(label) for label, _ in rows), default=0)
    return [f"{label:<{width}}  {facts}".rstrip() for label, facts in rows]


def _rows(node: RunNode, lead: str, below: str) -> Iterator[tuple[str, str]]:
    yield lead + _plain(node.name), _facts(node)
    for position, child in enumerate(node.children):
        last = position == len(node.children) - 1
        yield from _rows(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))


def _facts(node: RunNode) -> str:
    seconds = f"{node.seconds:8.1f} s" if node.seconds is not None else " " * 10
    facts = [f"{_plain(node.outcome or node.state):<9}", seconds]
    facts += [f"{_plain(name)}={value:.4g}" for name, value in list(node.metrics.items())[:_MOST_METRICS]]
    if node.reason:
        facts.append(f"({_plain(node.reason)})")
    if node.url:
        facts.append(_plain(node.url))
    return "  ".join(facts)


def _plain(text: str) -> str:
    """Return the text without what a terminal would obey: names and reasons are anybody's."""
    return "".join(character if character.isprintable() else "�" for character in str(text))
