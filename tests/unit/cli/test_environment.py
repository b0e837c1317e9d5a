"""`.k2/env` is believed only where nobody else could have written it, and only for what the local system writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from airflow_provider_k2.cli.environment import load_environment
from airflow_provider_k2.local import LocalSystem
from airflow_provider_k2.local.system import ALL_SERVICES
from airflow_provider_k2.local.variables import WRITTEN

if TYPE_CHECKING:
    from pathlib import Path

OTHER = 12_345


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local system's directory that is the current one's, and an environment without any."""
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "K2_", "AWS_REGION")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(tmp_path)
    home = tmp_path / ".k2"
    home.mkdir(mode=0o700)
    (home / "env").touch(mode=0o600)
    return home


def test_what_the_local_system_writes_is_read(home: Path) -> None:
    text = """export K2_ENGINE=direct\nexport AIRFLOW_CONN_CLICKHOUSE_DEFAULT='{"a": "it'"'"'s $(x)"}'\n"""
    (home / "env").write_text(text)
    assert load_environment() is not None
    assert os.environ["K2_ENGINE"] == "direct"
    assert os.environ["AIRFLOW_CONN_CLICKHOUSE_DEFAULT"] == """{"a": "it's $(x)"}"""


@pytest.mark.parametrize(
    "name",
    [
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD",
        "AIRFLOW__CORE__FERNET_KEY_CMD",
        "AIRFLOW__API__SECRET_KEY_SECRET",
        "AIRFLOW__CORE__PLUGINS_FOLDER",
        "AIRFLOW__SECRETS__BACKEND",
        "AIRFLOW_CONFIG",
        "PYTHONPATH",
        "LD_PRELOAD",
        "K2_TABLES",
        "AIRFLOW_CONN_OTHER",
        "BASH_ENV",
        "airflow__core__fernet_key_cmd",
    ],
)
def test_other_variables_are_ignored_and_named(home: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "env").write_text(f"export {name}='touch /tmp/hit'\nexport K2_ENGINE=direct\n")
    assert load_environment() is not None
    assert name not in os.environ
    assert os.environ["K2_ENGINE"] == "direct"
    assert f"k2: {name} of .k2/env is ignored: it is not a variable" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["file", "directory", "link"])
def test_what_belongs_to_somebody_else_is_not_used(
    home: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "env").write_text("export K2_ENGINE=direct\n")
    if what == "link":
        real = home.rename(home.with_name("elsewhere"))
        home.symlink_to(real)
    changed = home / "env" if what == "file" else home
    if os.geteuid() == 0:
        os.chown(changed, OTHER, OTHER, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    assert load_environment() is None
    assert "K2_ENGINE" not in os.environ
    said = capsys.readouterr().err
    assert "k2: the local system of .k2/env is not used, because it belongs to the account" in said
    assert "not to the account" in said


@pytest.mark.parametrize(("name", "mode"), [("env", 0o620), ("env", 0o602), (".", 0o770), (".", 0o707), (".", 0o1777)])
def test_what_others_may_write_is_not_used(
    home: Path, name: str, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "env").write_text("export K2_ENGINE=direct\n")
    (home / name).chmod(mode)
    assert load_environment() is None
    assert "K2_ENGINE" not in os.environ
    assert f"because others may write to it (its mode is {mode:04o})" in capsys.readouterr().err


def test_a_damaged_file_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "env").write_text("export K2_ENGINE='direct\n")
    assert load_environment() is None
    assert "is damaged (No closing quotation); run `k2 local up`" in capsys.readouterr().err


def test_what_is_set_already_stays_and_nothing_is_said_of_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("K2_ENGINE", "spark")
    path = os.environ["PATH"]
    (home / "env").write_text("export K2_ENGINE=direct\nexport PATH=/evil\n")
    load_environment()
    assert (os.environ["K2_ENGINE"], os.environ["PATH"]) == ("spark", path)
    assert "ignored" not in capsys.readouterr().err


def test_all_that_the_local_system_writes_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("3.3.2", "2.11.2"):
        system = LocalSystem(tmp_path / version, ALL_SERVICES, settings={"K2_ENGINE": "auto"})
        system.home.make()
        monkeypatch.setattr(type(system.airflow), "version", version)
        assert set(system.env()) - {"PATH"} <= WRITTEN
    assert not [
        name for name in WRITTEN if name.endswith(("_CMD", "_SECRET")) and name != "AIRFLOW__API_AUTH__JWT_SECRET"
    ]
