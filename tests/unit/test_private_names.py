"""Private names of libraries: each library's stand in one file of the package, with the reason, and exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.environments import SPARK

PACKAGE = Path(__file__).parents[2] / "airflow_provider_k2"
PUBLIC = {"os._exit", *(f"KafkaError.{name}" for name in ("_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_PURGE_QUEUE"))}
"""Names that are documented, whatever they begin with; librdkafka's own errors are told from the broker's by that."""


def _attribute_of(owner: Callable[[], Any], name: str) -> bool:
    """Whether an object, or the code that makes it, has an attribute."""
    made = owner()
    return hasattr(made, name) or bool(re.search(rf"\bself\.{name}\b", inspect.getsource(made)))


def _of_operator(name: str) -> bool:
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

    return hasattr(SparkSubmitOperator(task_id="one", application="job.py"), name)


def _of_transaction(name: str) -> bool:
    from pyiceberg.table import Transaction

    return _attribute_of(lambda: Transaction, name)


def _of_rest_catalog(name: str) -> bool:
    from pyiceberg.catalog.rest import RestCatalog
    from pyiceberg.catalog.rest.auth import OAuth2TokenProvider

    return any(_attribute_of(lambda owner=owner: owner, name) for owner in (RestCatalog, OAuth2TokenProvider))


def _of_pyspark(name: str) -> bool:
    """Spark has an environment of its own, whose modules this Python cannot import."""
    found = list((SPARK / "venv").glob("lib/python*/site-packages/pyspark/**/context.py"))
    if not found:
        pytest.skip("no Spark environment: `make test` makes it")
    return any(re.search(rf"(def |self\.){name}\b", file.read_text()) for file in found)


def _of_module(module: str) -> Callable[[str], bool]:
    return lambda name: hasattr(importlib.import_module(module), name)


_ARROW = _of_module("pyiceberg.io.pyarrow")
KNOWN: dict[str, dict[str, Callable[[str], bool]]] = {
    "commit/_pyiceberg.py": {
        "_check_pyarrow_schema_compatible": _ARROW,
        "_combine_positional_deletes": _ARROW,
        "_dataframe_to_data_files": _ARROW,
        "_expression_to_complementary_pyarrow": _ARROW,
        "_get_column_projection_values": _ARROW,
        "_read_all_delete_files": _ARROW,
        "_requirements": _of_transaction,
        "_StrictMetricsEvaluator": _of_module("pyiceberg.expressions.visitors"),
        "_to_requested_schema": _ARROW,
        "_updates": _of_transaction,
    },
    # The REST client's own, in the layer of the hooks: the commit knows no catalog by its kind.
    "hooks/rest_catalog.py": dict.fromkeys(("_auth_manager", "_client_secret_header"), _of_rest_catalog),
    "engines/spark/_pyspark.py": dict.fromkeys(("_ensure_initialized", "_jsc", "_jvm"), _of_pyspark),
    "local/clickhouse_server/_chdb.py": {"_chdb": _of_module("chdb")},
    "operators/_spark_submit.py": dict.fromkeys(("_conn_id", "_deploy_mode", "_hook", "_spark_binary"), _of_operator),
}
"""Where private names may be used, which, and whether the library has one."""


def private_names(source: str, own: set[str]) -> Iterator[str]:
    """Private names of others that a module uses.

    :param own: names that the package gives to its own attributes.
    """
    tree = ast.parse(source)
    here = defined(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("airflow_provider_k2"):
            yield from filter(is_private, [*(node.module or "").split("."), *(alias.name for alias in node.names)])
        elif isinstance(node, ast.Import):
            outside = [one.name for one in node.names if not one.name.startswith("airflow_provider_k2")]
            yield from filter(is_private, [part for name in outside for part in name.split(".")])
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node) not in PUBLIC:
            if node.attr not in (own | here if is_own(node) else here):
                yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            yield from (
                one.value
                for one in node.args[1:2]
                if isinstance(one, ast.Constant) and is_private(str(one.value)) and one.value not in here
            )


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.AST) -> set[str]:
    """Names that a module gives to methods and attributes of its own classes."""
    names = set()
    for owner in [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]:
        for node in ast.walk(owner):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node):
                names.add(node.attr)
    return names


def is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _used() -> dict[str, set[str]]:
    sources = {str(file.relative_to(PACKAGE)): file.read_text() for file in PACKAGE.rglob("*.py")}
    own = {name for source in sources.values() for name in defined(ast.parse(source))}
    return {name: found for name, source in sources.items() if (found := set(private_names(source, own)))}


def test_no_other_module_uses_a_private_name_of_a_library() -> None:
    assert _used() == {file: set(names) for file, names in KNOWN.items()}


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in KNOWN.items() for name in names])
def test_a_private_name_exists(file: str, name: str) -> None:
    assert KNOWN[file][name](name), f"{file}: the library has no {name} any more"


@pytest.mark.parametrize("file", KNOWN)
def test_each_place_says_why_and_which_version_was_seen(file: str) -> None:
    text = (PACKAGE / file).read_text()
    assert re.search(r"Seen in\s+[\w-]+ [0-9]+\.", ast.get_docstring(ast.parse(text)) or "")
    assert "Private, because" in text


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from pyiceberg.io.pyarrow import _one, two", ["_one"]),
        ("def late():\n    import chdb._chdb", ["_chdb"]),
        ("from chdb._chdb import connect", ["_chdb"]),
        ("table._updates", ["_updates"]),
        ("self._hook", ["_hook"]),
        ("getattr(catalog, '_session', None)", ["_session"]),
        ("class A:\n    def go(self):\n        self._x = 1\nA()._x\nself._y", []),
        ("from airflow_provider_k2.commit import _pyiceberg\nos._exit(0)\na.__class__", []),
    ],
)
def test_the_search_finds_them(source: str, found: list[str]) -> None:
    assert list(private_names(source, {"_y"})) == found
