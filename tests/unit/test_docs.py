"""What the pages say is there: links, commands, make targets. And it is said in plain English."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from airflow_provider_k2.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
        *ROOT.glob("docs/*.md"),
    ]
)
SOURCES = sorted(
    path
    for folder in ("airflow_provider_k2", "include", "dags")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".sql", ".yaml", ".html", ".json"}
)
UNITS = "row|core|table|file|line|task|trade|message|window|market|partition|commit|key|column|exchange|page"
COUNTED = "(rows?|words|bytes|files?|lines?|messages?|JSON|quer(y|ies)|tasks?|commits?|snapshots?|million|[KMG]i?B)"
UNIDIOMATIC = {
    r"\bmend(s|ed|ing)?\b": "fix",
    rf"\b(one|two|three|four|\d+([.,]\d+)*)( {COUNTED})? an? ({UNITS})\b": "per row, for each row",
    r"\bwithout a word\b": "silently, without telling",
    r"\bof today\b": "current",
    r"\bwould look well\b": "would look fine",
    r"(?-i:\bA range again\b)": "To offload a range again",
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_fences(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)


def fenced_lines(text: str) -> list[str]:
    """The lines of all fenced blocks, a line that ends with a backslash together with the next."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", text, flags=re.M | re.S)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of headings."""
    text = without_fences(page.read_text(encoding="utf-8"))
    found = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(next(one for one in [slug, *(f"{slug}-{i}" for i in range(1, 99))] if one not in found))
    return found


def test_every_fence_is_on_a_line_of_its_own() -> None:
    """Else the rest of the page is shown as code."""
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        fences = [line for line in lines if "```" in line]
        assert all(re.fullmatch(r" *```\w*", line) for line in fences), name(page)
        assert len(fences) % 2 == 0, name(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_fences(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            lost.append(target)
    assert not lost, f"{name(page)}: {lost}"


def commands(text: str) -> list[str]:
    """The `k2 ...` commands of a page: its fenced lines that begin with one, and those in code within a sentence."""
    fenced = [re.sub(r"^(\$ |\.venv/bin/)", "", line) for line in fenced_lines(text)]
    inline = re.findall(r"`(?:\.venv/bin/)?(k2 [^`]+)`", re.sub(r"\s+", " ", without_fences(text)))
    return [line for line in [*fenced, *inline] if re.match(r"k2 [a-z]", line)]


def arguments(line: str) -> list[str]:
    """A command as a shell would give it: no comment, no pipe; of a synopsis, everything that it allows."""
    line = re.sub(r"(\s#|\s\||\s>|\s[─│┐┘└]).*$", "", line)
    line = re.sub(r"\s\|\s.*?(?=[\]\s])", "", line)
    return shlex.split(re.sub(r"[][]|\.\.\.", "", line))[1:]


def refused(line: str) -> str | None:
    """Say what of a command does not exist; what typer cannot parse is raised."""
    command: Any = get_command(app)
    words = arguments(line)
    path = "k2"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        path = f"{path} {words[0]}"
        if words[0] not in command.commands:
            return f"there is no `{path}`"
        command = command.commands[words.pop(0)]
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    if given - known:
        return f"`{path}` has no {', '.join(sorted(given - known))}"
    command.make_parser(typer.Context(command)).parse_args(words)
    return None


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    problems = [refused(line) for line in commands(page.read_text(encoding="utf-8"))]
    assert not [problem for problem in problems if problem], name(page)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("k2 verify silver_trades --repair  # a comment", None),
        ("k2 verfy", "there is no `k2 verfy`"),
        ("k2 watermarks rebild", "there is no `k2 watermarks rebild`"),
        ("k2 verify --repare", "`k2 verify` has no --repare"),
        ("k2 local up [--no-airflow] [--dags DIR]", None),
        ("k2 local up [--no-air]", "`k2 local up` has no --no-air"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str, problem: str | None) -> None:
    assert refused(line) == problem


def test_every_make_target_of_a_page_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert {"demo", "test"} <= targets
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [*fenced_lines(text), *re.findall(r"`(make [^`]+)`", text)]
        calls = [
            re.sub(r"\[.*\]|[A-Z_]+=(\".*?\"|\S+)|#.*", "", line) for line in lines if re.match(r"make [a-z]", line)
        ]
        named = [call.split()[1:] for call in calls]
        unknown = {target for words in named for target in words} - targets
        assert not unknown, f"{name(page)}: {unknown}"


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=name)
def test_it_is_idiomatic(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = [
        f"{text.count(chr(10), 0, match.start()) + 1}: {' '.join(match.group().split())} -> {better}"
        for pattern, better in UNIDIOMATIC.items()
        for match in re.finditer(pattern.replace(" ", r"\s+"), text, re.I)
    ]
    assert not found, f"{name(path)}: {found}"
