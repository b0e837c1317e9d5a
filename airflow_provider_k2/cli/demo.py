"""``k2 demo``: the main job from one end to the other on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.render import Column, terminal_table

if TYPE_CHECKING:
    from rich.table import Table

    from airflow_provider_k2.local.demo import TableResult


ENGINES = ("auto", "direct", "spark")


def demo(
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A recording, or a folder of them, to replay instead of generated trades; its name tells the "
            "exchange. "
            "Repeatable; else what $K2_DEMO_DATA names."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(envvar="K2_DEMO_ENGINE", help="auto, direct or spark.")] = "auto",
    live: Annotated[
        bool,
        typer.Option("--live", envvar="K2_DEMO_LIVE", help="Live trades from a stand-in for three exchanges."),
    ] = False,
    home: Annotated[Path, typer.Option(envvar="K2_HOME", help="Directory of the local system.")] = Path(".k2"),
    dags: Annotated[Path, typer.Option(help="Airflow's folder of DAGs.")] = Path("dags"),
) -> None:
    """Start everything, send trades, run the DAG through Airflow's scheduler, and compare both sides."""
    console = Console(highlight=False, soft_wrap=True)
    # Without a terminal (make, CI) rich would squeeze the table into 80 columns.
    console = console if console.is_terminal else Console(highlight=False, width=160)
    from airflow_provider_k2.feed.messages import recordings_in, split_names
    from airflow_provider_k2.local.demo import run_demo
    from airflow_provider_k2.local.home import LocalSystemError
    from airflow_provider_k2.local.system import ALL_SERVICES, LocalSystem

    if engine not in ENGINES:
        console.print(f"demo: the engine {engine!r} is not known; use {', '.join(ENGINES)}", style="red", markup=False)
        raise typer.Exit(2)
    if live:
        _demo_live(console, home, dags)
        return
    try:
        files = recordings_in(data or split_names(os.environ.get("K2_DEMO_DATA", "")))
        results = run_demo(home, engine, files, console.print, dags)
    except (K2Error, LocalSystemError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    console.print(_table(results))
    system = LocalSystem(home, ALL_SERVICES, dags=dags)
    console.print(f"Airflow        {system.airflow.url}/dags/k2_offload   user admin, password in {home}/secrets.json")
    console.print(f"Ledger's page  {system.airflow.url}/k2/ledger")
    k2 = _k2()
    looks = "    ".join(f"{k2} {command}" for command in ("verify", "watermarks", "local status"))
    console.print(f"Look around    {looks}    and stop with: make down", markup=False, soft_wrap=True)
    good = sum(result.verdict.equal for result in results)
    sign = "=" if good == len(results) else "!="
    console.print(f"demo: {good} of {len(results)} tables, warm {sign} cold")
    if good < len(results):
        raise typer.Exit(1)


def _demo_live(console: Console, home: Path, dags: Path) -> None:
    from airflow_provider_k2.local.demo_live import run_live_demo
    from airflow_provider_k2.local.home import LocalSystemError

    try:
        results = run_live_demo(home, console.print, dags)
    except (K2Error, LocalSystemError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    names = ("exchange", "traded", "filled", "bronze", "silver", "in candles", "cold", "each once")
    rows = []
    for one in results:
        counts = (one.traded, one.filled, one.bronze, one.silver, one.candles, one.cold)
        rows.append((one.exchange, *(f"{count:,}" for count in counts), "yes" if one.once else "no"))
    console.print(terminal_table(map(Column, names), rows))
    good = sum(one.once for one in results)
    console.print(f"demo: {good} of {len(results)} exchanges, every trade once; stop with: make down")
    if good < len(results):
        raise typer.Exit(1)


def _k2() -> str:
    """How to call ``k2`` from here: make has it on its path, the shell that called make does not."""
    script = Path(sys.executable).with_name("k2")
    if not script.is_file():
        return "k2"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def _table(results: list[TableResult]) -> Table:
    left = [Column(name, wraps=False) for name in ("table", "layer", "engine")]
    numbers = [
        Column(name, right=True, wraps=False)
        for name in ("rows moved", "seconds", "rows/s", "snapshot", "warm", "cold", "view")
    ]
    return terminal_table(
        [*left, *numbers, Column("warm = cold", wraps=False)], [_row(result) for result in results], frame=False
    )


def _row(result: TableResult) -> list[str]:
    verdict = result.verdict
    return [
        result.table.name,
        result.table.layer,
        "+".join(result.engines) or "-",
        f"{result.rows:,}",
        f"{result.seconds:.2f}",
        f"{result.rows / result.seconds:,.0f}" if result.rows and result.seconds else "-",
        str(result.snapshot_id or "-"),
        f"{verdict.warm_rows:,}",
        f"{verdict.cold_rows:,}",
        f"{result.view_rows:,}",
        "yes" if verdict.equal else "[red]NO[/red]",
    ]
