"""``wandb-airflow why``: why a registry alias points where it does."""

from __future__ import annotations

import argparse
import json
import sys

from wandb_airflow_provider.cli.own_output import own_output

__all__ = ["main", "parser"]


def main(argv: list[str]) -> int:
    """
    Print the page of a registry alias.

    :return: 0 when it was printed, 1 when it could not be read, 2 for wrong arguments.
    """
    arguments = parser().parse_args(argv)
    with own_output():
        from wandb_airflow_provider.audit_page import history_markdown, history_text
        from wandb_airflow_provider.exceptions import WandbError
        from wandb_airflow_provider.hooks.alias_history import read_audit

    try:
        with own_output():
            history = read_audit(*arguments.alias, wandb_conn_id=arguments.conn_id, entity=arguments.entity)
    except WandbError as error:
        print(f"wandb-airflow why: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(history.to_json(), indent=2, ensure_ascii=False))
    elif arguments.html:
        from wandb_airflow_provider.audit_page import history_document
        from wandb_airflow_provider.reports.html import to_html

        print(to_html(history_document(history)))
    else:
        print(history_markdown(history) if arguments.markdown else history_text(history))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        prog="wandb-airflow why",
        description="Print why a registry alias points to its version: verdict, approval, promotion, earlier holders.",
    )
    made.add_argument(
        "alias",
        metavar="REGISTRY/COLLECTION:ALIAS",
        type=_address,
        help="for example model/search:production",
    )
    made.add_argument("--conn-id", default="wandb_default", help="Airflow connection (default: %(default)s)")
    made.add_argument("--entity", help="whose audit (default: the connection's entity, else the key's)")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, with every entry of the audit")
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--html", action="store_true", help="print a page of HTML")
    return made


def _address(text: str) -> tuple[str, str, str]:
    registry, _, rest = text.partition("/")
    collection, _, alias = rest.partition(":")
    if not (registry and collection and alias) or "/" in rest:
        raise argparse.ArgumentTypeError(f"{text!r} is not REGISTRY/COLLECTION:ALIAS")
    return registry, collection, alias
