"""The check that follows every fault, once the next run has finished.

Both tiers, the ledger, the lease, what lies about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.shapes import Row
from tests.faults.subject import Subject
from tests.faults.witness.cold import ColdTable, Commit
from tests.faults.witness.description import misdescribed
from tests.faults.witness.ledger import Moved

_WINDOWS_FILE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[^/]*\.parquet$")

_COMPACTED_FILE = re.compile(r"/compacted-[0-9a-f]{32}-[0-9]{5}\.parquet$")


@dataclass(frozen=True)
class Verdict:
    """What the check found.

    :param rows: that the cold tier has to hold.
    :param lost: rows that the cold tier has too few times.
    :param duplicated: rows that it has too many times.
    :param wrong: everything else that is not as it must be.
    :param orphans: data files that no snapshot refers to (they must be recognisable).
    """

    rows: int
    lost: int
    duplicated: int
    wrong: tuple[str, ...] = ()
    orphans: int = 0

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong)


def check(subject: Subject) -> Verdict:
    """Look at everything that a case has left; what cannot be read is wrong."""
    try:
        return _check(subject)
    except AssertionError as error:
        return Verdict(len(subject.sent), 0, 0, (str(error),))


def _check(subject: Subject) -> Verdict:
    table = subject.cold()
    expected, held = subject.expected(), table.rows(subject.shape)
    commits = table.commits(subject.pipeline)
    orphans = table.orphans()
    wrong = [
        *_warm(subject, held),
        *misdescribed(table),
        *_commits(table, commits),
        *_ledger(subject, commits),
        *_unknown_files(subject, orphans),
    ]
    excused = subject.shape.cold((subject.excused & subject.warm_rows()).elements()) if subject.excused else Counter()
    lost, duplicated = sum((expected - held - excused).values()), sum((held - expected).values())
    return Verdict(sum(expected.values()), lost, duplicated, tuple(wrong), len(orphans))


def _warm(subject: Subject, held: Counter[Row]) -> Iterator[str]:
    """The warm tier holds what was put in and not taken out; where the product deletes, every row is somewhere."""
    there = subject.warm_rows()
    if subject.warm_now is not None:
        if there != subject.warm_now:
            gone, new = subject.warm_now - there, there - subject.warm_now
            yield f"the warm tier was changed: {sum(gone.values())} rows are gone, {sum(new.values())} are new"
        return
    nowhere = subject.shape.cold(subject.sent) - held - subject.shape.cold(there.elements())
    if nowhere:
        yield f"{sum(nowhere.values())} rows are in neither tier, such as {next(iter(nowhere))}"


def _commits(table: ColdTable, commits: list[Commit]) -> Iterator[str]:
    if any(commit.target_uuid != table.uuid for commit in commits):
        yield "a window that was written for one table was committed to another one"
    tokens = [commit.token for commit in commits]
    if tokens != sorted(tokens, reverse=True):
        yield f"a commit with an older fencing token follows a newer one: {tokens[::-1]}"
    twice = [name for name, times in Counter(commit.commit_id for commit in commits).items() if times > 1]
    if twice:
        yield f"a window was committed more than once: {', '.join(twice)}"


def proven(commits: list[Commit]) -> int | None:
    """The watermark that the cold tier proves."""
    return commits[0].watermark if commits else None


def _ledger(subject: Subject, commits: list[Commit]) -> Iterator[str]:
    ledger = subject.lab.ledger
    watermark = ledger.watermark(subject.target)
    if watermark is None:
        yield "the ledger has no watermark"
        return
    windows = subject.windows()
    yield from _watermark(watermark, windows, commits)
    yield from _gaps(subject, watermark, windows)
    if any(window.state == "claimed" for window in windows):
        yield "a window is still claimed"
    lease = ledger.lease(subject.target)
    if lease is not None and lease[0] is not None:
        yield f"the lease is still held by {lease[0]}"


def _watermark(watermark: int, windows: list[Moved], commits: list[Commit]) -> Iterator[str]:
    mark = proven(commits)
    if mark is None:
        return
    if watermark < mark:
        yield f"the ledger's watermark {watermark} is behind the cold tier's {mark}"
    above = [window for window in _scheduled(windows) if window.lower >= mark and window.upper <= watermark]
    if watermark > mark and any(window.rows for window in above):
        yield f"the ledger's watermark {watermark} is ahead of the cold tier's {mark} over rows"


def _gaps(subject: Subject, watermark: int, windows: list[Moved]) -> Iterator[str]:
    """The scheduled windows lie side by side, up to the watermark."""
    committed = _scheduled(windows)
    reached: int | None = None
    for window in committed:
        if reached is None:
            # A ledger that was lost knows the windows from some one on.
            reached = window.lower
        # Empty windows leave no trace in the cold tier: a ledger that was lost does not have them any more.
        quiet = subject.ledger_lost and not _rows_between(subject, reached, window.lower)
        if window.lower > reached and window.lower < watermark and not quiet:
            yield f"no committed window covers [{reached}, {window.lower})"
        reached = max(reached, window.upper)
    if reached is not None and not subject.ledger_lost:
        first = min(map(subject.shape.at, subject.sent))
        if committed[0].lower > first and committed[0].lower > int(subject.table.get("start", 0)):
            yield f"the first committed window begins at {committed[0].lower}, the first row at {first}"
    if reached is not None and reached < watermark:
        yield f"the committed windows end at {reached}, the watermark is {watermark}"


def _scheduled(windows: list[Moved]) -> list[Moved]:
    return [window for window in windows if window.state == "committed" and window.kind == "scheduled"]


def _rows_between(subject: Subject, lower: int, upper: int) -> int:
    return sum(lower <= subject.shape.at(row) < upper for row in subject.sent)


def _unknown_files(subject: Subject, orphans: list[str]) -> Iterator[str]:
    """Every file that nobody refers to has a name that tells whose it was."""
    known = None if subject.ledger_lost else [window.window_id for window in subject.windows()]
    for path in orphans:
        if _COMPACTED_FILE.search(path):
            continue
        ours = _WINDOWS_FILE.search(path) is not None if known is None else any(name in path for name in known)
        if not ours:
            yield f"nobody can tell whose file this is: {path}"
