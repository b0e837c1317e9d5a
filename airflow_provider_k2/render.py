"""Tables for people: in the terminal, and as text in a task's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table


@dataclass(frozen=True)
class Column:
    """One column of a table.

    :param heading: its heading.
    :param right: numbers stand at the right.
    :param wraps: a narrow terminal may break its cells into lines.
    :param width: least width in a log.
    """

    heading: str
    right: bool = False
    wraps: bool = True
    width: int = 0


def terminal_table(
    columns: Iterable[Column], rows: Iterable[Sequence[str]], *, title: str | None = None, frame: bool = True
) -> Table:
    """Make a table for a terminal.

    :param rows: their cells, in which rich's markup counts.
    :param frame: draw lines; without them the headings are bold.
    """
    from rich.table import Table

    look: dict[str, Any] = {} if frame else {"box": None, "header_style": "bold"}
    table = Table(title=title, **look)
    for column in columns:
        table.add_column(column.heading, justify="right" if column.right else "left", no_wrap=not column.wraps)
    for row in rows:
        table.add_row(*row)
    return table


def log_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """Lay a table out as text: each cell at least as wide as its column, the last one as it is."""
    return "\n".join(
        " ".join(
            cell.rjust(column.width) if column.right else cell.ljust(column.width)
            for column, cell in zip(columns, row, strict=True)
        )
        for row in ([column.heading for column in columns], *rows)
    )


def number(value: int | None) -> str:
    """A count with thousands apart, or a dash where there is none."""
    return "-" if value is None else f"{value:,}"
