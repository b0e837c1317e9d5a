"""``k2``: the command line."""

from __future__ import annotations

import importlib

import typer

app = typer.Typer(
    name="k2",
    help="Moves data from ClickHouse to Apache Iceberg: run it on one machine, feed it, prove it, fix it.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals may hold secrets
)

_GROUPS = {
    "feed": ("airflow_provider_k2.cli.live", "Live trades of an exchange into Kafka."),
    "local": ("airflow_provider_k2.cli.local", "The whole system on one machine."),
    "gaps": ("airflow_provider_k2.cli.gaps", "Trades that are missing."),
    "watermarks": ("airflow_provider_k2.cli.watermarks", "Show and fix the ledger's watermarks."),
    "views": ("airflow_provider_k2.cli.views", "One name over both tiers of a table."),
}
_COMMANDS = {
    "demo": ("airflow_provider_k2.cli.demo", "demo", "Run the main job on this machine."),
    "replay": ("airflow_provider_k2.cli.feed", "replay", "Send raw messages through the warm tier."),
    "generate": ("airflow_provider_k2.cli.feed", "generate", "Make raw messages."),
    "verify": ("airflow_provider_k2.cli.verify", "verify", "Compare warm and cold."),
    "repartition": (
        "airflow_provider_k2.cli.repartition",
        "repartition",
        "Give a cold table the partition spec of the table list.",
    ),
    "maintain": (
        "airflow_provider_k2.cli.maintain",
        "maintain",
        "Care for cold tables: small files, manifests, old snapshots, orphans.",
    ),
    "retention": (
        "airflow_provider_k2.cli.retention",
        "retention",
        "Drop warm partitions past their age that are proven to be cold.",
    ),
}


def _unavailable(name: str, help_text: str, error: ImportError) -> None:
    """Keep the other commands when one lacks a library."""

    def command() -> None:
        typer.echo(
            f"`k2 {name}` needs {error.name or error}, which is not installed. Nothing was done; install it with "
            "`pip install 'airflow-provider-k2[local]'`.",
            err=True,
        )
        raise typer.Exit(2)

    extra = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=f"{help_text} (not installed)", context_settings=extra)(command)


def _register() -> None:
    for name, (module, help_text) in _GROUPS.items():
        try:
            app.add_typer(importlib.import_module(module).app, name=name)
        except ImportError as error:
            _unavailable(name, help_text, error)
    for name, (module, function, help_text) in _COMMANDS.items():
        try:
            app.command(name)(getattr(importlib.import_module(module), function))
        except ImportError as error:
            _unavailable(name, help_text, error)


_register()
