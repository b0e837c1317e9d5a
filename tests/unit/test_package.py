"""What Airflow reads of the distribution: provider info, entry points, and no Airflow at import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, entry_points, metadata
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from airflow.plugins_manager import AirflowPlugin
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import airflow_provider_k2
from airflow_provider_k2.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_provider_info_is_valid_by_airflows_schema() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    info = get_provider_info()
    jsonschema.validate(info, schema)
    assert info["package-name"] == PROJECT["name"]
    assert info["versions"] == [airflow_provider_k2.__version__]


def test_the_versions_agree() -> None:
    assert PROJECT["version"] == airflow_provider_k2.__version__
    assert f"## [{airflow_provider_k2.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_module_that_the_provider_info_names_exists() -> None:
    info = get_provider_info()
    names = [name for part in (*info["operators"], *info["hooks"]) for name in part["python-modules"]]
    names += [part["python-module"] for part in info["transfers"]]
    names += [part["hook-class-name"].rpartition(".")[0] for part in info["connection-types"]]
    for name in names:
        assert ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file(), name


@pytest.mark.parametrize(
    "module",
    [
        "airflow_provider_k2",
        "airflow_provider_k2.get_provider_info",
        "airflow_provider_k2.cli.main",
        "airflow_provider_k2.local",
    ],
)
def test_importing_it_imports_no_airflow(module: str) -> None:
    script = f"import sys, {module}; print(*sorted(name for name in sys.modules if name.split('.')[0] == 'airflow'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_provider_info_imports_no_airflow_when_it_is_called() -> None:
    script = (
        "import sys; from airflow_provider_k2.get_provider_info import get_provider_info; get_provider_info(); "
        "assert not any(name.split('.')[0] == 'airflow' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("group", "name"),
    [("apache_airflow_provider", "provider_info"), ("airflow.plugins", "k2"), ("console_scripts", "k2")],
)
def test_the_entry_points_load(group: str, name: str) -> None:
    (point,) = (entry for entry in entry_points(group=group, name=name) if entry.dist.name == PROJECT["name"])
    loaded = point.load()
    if group == "apache_airflow_provider":
        assert loaded is get_provider_info
    elif group == "airflow.plugins":
        assert issubclass(loaded, AirflowPlugin)
    else:
        assert callable(loaded)


def _required(name: str, extra: str = "") -> Iterator[Requirement]:
    """What an installed distribution requires, by its metadata."""
    for text in metadata(name).get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _caps(start: Iterable[Requirement]) -> dict[str, str]:
    """Upper bounds of Airflow among requirements and, through them, everything else that is installed for them."""
    caps: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(PROJECT["name"], requirement) for requirement in start]
    while waiting:
        asks, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in ("apache-airflow", "apache-airflow-core"):
            # One that Airflow's own parts have of each other pins them together; it is no cap of ours.
            if not requirement.specifier.contains("99.0") and not asks.startswith("apache-airflow"):
                caps[asks] = str(requirement.specifier)
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                with suppress(PackageNotFoundError):
                    waiting += [(name, other) for other in _required(name, extra)]
    return caps


def test_airflow_has_no_upper_cap() -> None:
    """By the metadata of the distribution and of everything that it brings.

    A new Airflow can be installed beside it.
    """
    (airflow,) = (one for one in _required(PROJECT["name"]) if one.name == "apache-airflow")
    assert str(airflow.specifier) == ">=2.11"
    assert _caps(_required(PROJECT["name"])) == {}


def test_the_plugin_is_an_extra_because_it_caps_airflow() -> None:
    assert not any("clickhouse-plugin" in requirement.name for requirement in _required(PROJECT["name"]))
    assert list(_caps(map(Requirement, PROJECT["optional-dependencies"]["plugin"]))) == ["airflow-clickhouse-plugin"]


def test_only_one_module_imports_the_plugin() -> None:
    package = ROOT / "airflow_provider_k2"
    found = [
        path
        for path in package.rglob("*.py")
        if re.search(r"^\s*(from|import) airflow_clickhouse_", path.read_text(), re.M)
    ]
    assert found == [package / "hooks/native.py"]


def test_every_line_of_airflow_has_a_lock_file() -> None:
    lines = [line.split() for line in (ROOT / ".ci/matrix").read_text().splitlines() if not line.startswith("#")]
    assert {name for name, *_ in lines} == {path.stem for path in (ROOT / "requirements").glob("*.txt")}
    for name, *extras in lines:
        assert set(extras) <= set(PROJECT["optional-dependencies"])
        assert ("airflow-clickhouse-plugin==" in (ROOT / f"requirements/{name}.txt").read_text()) is (
            "plugin" in extras
        )


@pytest.mark.parametrize("name", ["airflow-3.3", "airflow-2.11"])
def test_the_lock_files_hold_for_any_mirror(name: str) -> None:
    text = (ROOT / f"requirements/{name}.txt").read_text()
    line = name.partition("-")[2]
    assert f"\napache-airflow=={line}." in text
    assert "://" not in text
    assert "index-url" not in text
    assert "\npyspark==" not in text, "pyspark and pyspark-client own the same module"
