from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from typer import Typer
from typer.testing import CliRunner

from airflow_provider_k2.cli import demo, watermarks
from airflow_provider_k2.local import demo as local_demo
from airflow_provider_k2.local import system


@pytest.fixture
def calls(monkeypatch):
    """What reaches the commands' insides."""
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(watermarks, "_show", lambda *arguments: made.append(arguments))
    monkeypatch.setattr(watermarks, "_change", lambda *arguments, **_: made.append(arguments))
    return made


def _run(*arguments, **environment):
    return CliRunner().invoke(watermarks.app, arguments, env={"COLUMNS": "500", "TERM": "dumb", **environment})


@pytest.mark.parametrize(
    ("option", "command"),
    [
        (["--watermark-conn-id", "other"], ["reset", "orders"]),
        (["--watermark-conn-id", "postgres_default"], ["reset", "orders"]),
        (["--iceberg-conn-id", "other"], ["rebuild"]),
        (["--tables", "mine.yaml"], ["history", "orders"]),
        (["--json"], ["show"]),
    ],
)
def test_an_option_before_the_command_is_refused(option, command, calls):
    result = _run(*option, *command)
    assert result.exit_code == 2
    output = " ".join(result.output.split())
    assert f"{option[0]} stands before `{command[0]}`, which would not see it. Nothing was done" in output
    assert f"k2 watermarks {command[0]} ... {option[0]}" in output
    assert not calls


def test_options_after_the_command_and_without_one_are_taken(calls):
    assert _run("reset", "orders", "--watermark-conn-id", "other").exit_code == 0
    assert calls.pop()[3] == ("clickhouse_default", "iceberg_default", "other")
    assert _run("--watermark-conn-id", "other").exit_code == 0
    assert calls.pop()[-1] == "other"


def test_a_variable_reaches_the_command(calls):
    assert _run("reset", "orders", K2_TABLES="mine.yaml").exit_code == 0
    assert str(calls.pop()[2]) == "mine.yaml"


@pytest.mark.parametrize(
    ("environment", "here", "printed"),
    [
        (".venv", ".", ".venv/bin/k2"),
        (".venv", "elsewhere", "{root}/.venv/bin/k2"),
        ("a b", ".", "'a b/bin/k2'"),
        (None, ".", "k2"),
    ],
)
def test_the_demo_ends_with_commands_that_are_found(environment, here, printed, monkeypatch, tmp_path):
    scripts = tmp_path / (environment or "none") / "bin"
    for path in (scripts, tmp_path / here):
        path.mkdir(parents=True, exist_ok=True)
    if environment:
        (scripts / "k2").touch()
    monkeypatch.chdir(tmp_path / here)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setattr(local_demo, "run_demo", lambda *_: [])
    monkeypatch.setattr(
        system, "LocalSystem", lambda *_, **__: SimpleNamespace(airflow=SimpleNamespace(url="http://a"))
    )
    app = Typer()
    app.command()(demo.demo)
    k2 = printed.format(root=tmp_path)
    output = CliRunner().invoke(app).output
    assert f"Look around    {k2} verify    {k2} watermarks    {k2} local status    and stop with: make down" in output
