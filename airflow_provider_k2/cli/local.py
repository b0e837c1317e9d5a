"""``k2 local``: the whole system on one machine."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from airflow_provider_k2.render import Column, terminal_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_k2.local.system import LocalSystem

app = typer.Typer(
    help="The whole system on one machine: ClickHouse, PostgreSQL, S3, catalog, Airflow, Spark.", no_args_is_help=True
)
_console = Console()
_errors = Console(stderr=True)

Home = Annotated[Path | None, typer.Option("--home", envvar="K2_HOME", help="Its directory; .k2 if not given.")]
Dags = Annotated[Path, typer.Option(help="Airflow's folder of DAGs.")]


def _system(
    home: Path | None,
    airflow: bool = False,
    dags: Path = Path("dags"),
    extra: Sequence[str] = (),
) -> LocalSystem:
    from airflow_provider_k2.local.system import ALL_SERVICES, DATA_SERVICES, LocalSystem

    return LocalSystem(home or Path(".k2"), (*(ALL_SERVICES if airflow else DATA_SERVICES), *extra), dags=dags)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what a user can fix into its sentence and exit code 1."""
    from airflow_provider_k2.local.home import LocalSystemError

    try:
        yield
    except LocalSystemError as error:
        _errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
@_plain_errors()
def up(
    home: Home = None,
    dags: Dags = Path("dags"),
    airflow: Annotated[bool, typer.Option("--airflow/--no-airflow", help="With Airflow, or only the services.")] = True,
    spark: Annotated[bool, typer.Option("--spark", help="Make Spark's environment (once, 800 MB).")] = False,
    spark_cluster: Annotated[
        bool, typer.Option("--with-spark-cluster", help="A Spark master and two workers, too (600 MB of memory).")
    ] = False,
    kafka: Annotated[
        bool, typer.Option("--with-kafka", help="A Kafka broker, too (45 MB to fetch once, 300 MB of memory).")
    ] = False,
    exchange: Annotated[
        bool, typer.Option("--with-exchange", help="A stand-in for three exchanges, too, with made-up trades.")
    ] = False,
) -> None:
    """Start what is not running yet, and show where everything is."""
    from airflow_provider_k2.local.system import EXCHANGE, KAFKA, SPARK_CLUSTER

    extra = [name for name, wanted in ((SPARK_CLUSTER, spark_cluster), (KAFKA, kafka), (EXCHANGE, exchange)) if wanted]
    system = _system(home, airflow, dags, extra)
    with _console.status("starting ..."):
        if spark:
            system.ensure_spark()
        system.up()
    _show(system)
    if airflow:
        _console.print(f"Airflow: user admin, password in {system.home.path / 'secrets.json'} (airflow.admin)")
    if exchange:
        _console.print(f"A stand-in, not an exchange: k2 feed run --stand-in {system.exchange.url} --exchange ...")
    _console.print(f"In a shell: source {shlex.quote(str(system.home.env_file))}")


@app.command()
@_plain_errors()
def down(home: Home = None) -> None:
    """Stop everything; the data stays."""
    system = _system(home)
    if not system.home.path.exists():
        _console.print(f"nothing to stop: {system.home.path} does not exist")
        return
    with _console.status("stopping ..."):
        system.down()
    _console.print("stopped")


@app.command()
@_plain_errors()
def status(home: Home = None) -> None:
    """Show every service; the exit code is 1 when one that has been started does not run."""
    system = _system(home)
    if not system.home.path.exists():
        _console.print("nothing here: run 'k2 local up'")
        raise typer.Exit(1)
    if not _show(system):
        raise typer.Exit(1)


@app.command()
@_plain_errors()
def reset(
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop everything and delete all data, logs and passwords."""
    system = _system(home)
    if not yes and system.home.path.exists():
        typer.confirm(f"Delete all data below {system.home.path}?", abort=True)
    system.reset()
    _console.print("deleted")


@app.command()
@_plain_errors()
def env(
    home: Home = None,
    exports: Annotated[
        bool, typer.Option("--exports", help="Print its lines (they hold secrets), not its path.")
    ] = False,
) -> None:
    """Print the path of the file to source in a shell."""
    system = _system(home)
    system.home.check()
    file = system.home.env_file
    if not file.exists():
        _errors.print("there is no local system yet: run 'k2 local up'", style="red")
        raise typer.Exit(1)
    typer.echo(file.read_text().rstrip() if exports else file)


@app.command()
@_plain_errors()
def logs(
    service: Annotated[str, typer.Argument(help="As 'k2 local status' names it.")],
    home: Home = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of its last lines.")] = 50,
) -> None:
    """Print the end of a service's log."""
    known = {line.service: line.log for line in _system(home).status()}
    if service not in known:
        _errors.print(f"no service '{service}': choose from {', '.join(known)}", style="red")
        raise typer.Exit(2)
    if known[service].exists():
        typer.echo("\n".join(known[service].read_text(errors="replace").splitlines()[-lines:]))


def _show(system: LocalSystem) -> bool:
    """Print the table; whether everything runs."""
    colours = {"running": "green", "stopped": "red"}
    found = system.status()
    rows = [
        (
            line.service,
            f"[{colours.get(line.state, 'yellow')}]{line.state}[/]",
            str(line.pid or ""),
            line.url,
            str(line.log),
        )
        for line in found
    ]
    _console.print(terminal_table(map(Column, ("service", "state", "pid", "url", "log")), rows))
    return all(line.state == "running" for line in found)
