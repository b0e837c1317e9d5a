"""What can go wrong, as a small tree.

An error says what happened, to which table and window, what was left untouched, and what fixes it: each is a field of
its own, and the sentence is made of them in one place.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CLICKHOUSE = "ClickHouse"
CATALOG = "Iceberg catalog"
STORE = "object store"
LEDGER = "ledger"
SPARK = "Spark"
"""Services, as :class:`ServiceError` names them."""


class K2Error(Exception):
    """Base of every error that this provider raises on purpose.

    :param what: what happened, without the table, and without a full stop.
    :param table: short name of the table.
    :param window: the range of cursors, in words, if ``what`` does not say it.
    :param step: what was being done: ``prepare``, ``agree``, ``move``, ``record``, ``compare``, ``drop`` or
        ``maintain``.
    :param untouched: what was left as it was: ``Nothing was committed and the watermark stands``.
    :param fix: what to do, as an order: ``run `k2 verify orders```.
    """

    def __init__(
        self,
        what: str,
        *,
        table: str | None = None,
        window: str | None = None,
        step: str | None = None,
        untouched: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what, self.table, self.window, self.step, self.untouched, self.fix = (
            what,
            table,
            window,
            step,
            untouched,
            fix,
        )

    def __str__(self) -> str:
        # What was raised far below may name its table or window by itself.
        where = f"{self.table}: " if self.table and not self.what.startswith(f"{self.table}:") else ""
        where += f"window {self.window}: " if self.window and self.window not in self.what else ""
        rest = "; ".join(part for part in (self.untouched, self.fix) if part)
        what = f"{where}{self.what}"
        if not rest:
            return what if what.endswith((".", "\n")) or not where else f"{what}."
        return f"{what}{'' if what.endswith('.') else '.'} {rest[0].upper()}{rest[1:]}."

    def __reduce__(self) -> Any:
        # Airflow sends errors between processes, and the fields are keywords.
        return _rebuild, (type(self), self.args, self.__dict__)

    def at(self, *, table: str | None = None, window: str | None = None, step: str | None = None) -> K2Error:
        """Add where it happened, unless it is known: code that calls a service knows neither table nor window."""
        self.table, self.window, self.step = self.table or table, self.window or window, self.step or step
        return self

    def as_dict(self) -> dict[str, Any]:
        """The fields, for XCom, callbacks, JSON and logs."""
        names = ("what", "table", "window", "step", "untouched", "fix")
        return {"error": type(self).__name__, "message": str(self), **{name: getattr(self, name) for name in names}}


def from_dict(fields: Mapping[str, Any]) -> K2Error:
    """The error that :meth:`K2Error.as_dict` described, for errors that were raised on another machine."""
    kind: type[K2Error] = globals()[fields["error"]]
    known = {name: value for name, value in fields.items() if name not in ("error", "message", "what")}
    return kind(fields["what"], **known)


@contextmanager
def about(table: str, step: str) -> Iterator[None]:
    """Add the table to whatever goes wrong inside, because code that calls a service does not know it.

    An error that is not ours was not expected: it gets a note, which its traceback shows.
    """
    try:
        yield
    except K2Error as error:
        error.at(table=table, step=step)
        raise
    except Exception as error:
        error.add_note(
            f"{table}: this was not expected (step: {step}). Earlier commits stand, and so does the watermark."
        )
        raise


def _rebuild(kind: type[K2Error], args: tuple[Any, ...], fields: dict[str, Any]) -> K2Error:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ServiceError(K2Error):
    """A service does not answer, or refuses.

    :param service: which one: ``ClickHouse``, ``Iceberg catalog``, ``object store``, ``ledger`` or ``Spark``.
    """

    def __init__(self, what: str, *, service: str, **fields: Any) -> None:
        super().__init__(what, **fields)
        self.service = service

    def as_dict(self) -> dict[str, Any]:
        """The fields, for XCom, callbacks, JSON and logs."""
        return {**super().as_dict(), "service": self.service}


class TableListError(K2Error):
    """The table list is wrong; the message lists every mistake at once."""


class TypePlanError(K2Error):
    """A column cannot be stored exactly in the cold tier, or the schemas of both sides contradict each other."""


class SourceMissingError(K2Error):
    """The warm source does not exist or cannot be read."""


class IdentityError(K2Error):
    """Source or target is not the object that earlier windows belong to (dropped and created again)."""


class WatermarkError(K2Error):
    """The stored watermark is impossible."""


class RunConfError(K2Error):
    """The run conf asks for the impossible: an unknown key, or a range that is empty, reversed or in the future."""


class LeaseError(K2Error):
    """The table's lease does not belong to this run."""


class LeaseHeldError(LeaseError):
    """Another run holds the table's lease."""


class LeaseLostError(LeaseError):
    """The lease of this run was taken over; nothing may be committed any more."""


class ReplacedByLessError(K2Error):
    """A commit would remove cold rows that the warm tier does not have (any more)."""


class ProofError(K2Error):
    """What was written differs from what was read, in row count or content checksum."""


class DifferenceError(K2Error):
    """Warm and cold tier differ, and a repair was refused, did not help, or was not requested."""


class CommitUnknownError(K2Error):
    """The outcome of a commit could not be determined; the next run looks it up again."""


class TableChangedError(K2Error):
    """Somebody changed the cold table during a run.

    It was rolled back, or has another schema, partition spec or sort order.
    """


class CommitConflictError(K2Error):
    """Another writer changed the cold table between planning and commit, more often than was retried."""


class CommitRefusedError(K2Error):
    """The catalog does not allow a commit (permission, credentials, a request that it does not accept)."""


class RetentionError(K2Error):
    """Warm rows past their age, or about to be deleted by a TTL, are not proven to be cold."""


class ViewError(K2Error):
    """A view over both tiers could not be made, or could not be exact."""


class MaintenanceError(K2Error):
    """The care of a cold table found something to look at; what it left alone is as it was."""
