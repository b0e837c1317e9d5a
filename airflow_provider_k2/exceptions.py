"""What can go wrong, as a small tree. Every message says what happened, where, what was left untouched and the mend."""

from __future__ import annotations


class K2Error(Exception):
    """Base of every error that this provider raises on purpose."""


class TableListError(K2Error):
    """The table list is wrong; the message lists every mistake at once."""


class TypePlanError(K2Error):
    """A column cannot be held exactly in the cold tier, or the schemas of both sides contradict each other."""


class SourceMissingError(K2Error):
    """The warm source does not exist or cannot be read."""


class IdentityError(K2Error):
    """Source or target is not the object that earlier windows belong to (dropped and created again)."""


class WatermarkError(K2Error):
    """The stored watermark is impossible."""


class LeaseHeldError(K2Error):
    """Another run holds the table's lease."""


class LeaseLostError(K2Error):
    """The lease of this run was taken over; nothing may be committed any more."""


class ReplacedByLessError(K2Error):
    """A commit would take rows out of the cold tier that the warm tier does not have (any more)."""


class ProofError(K2Error):
    """What was written is not what was read: row count or content checksum differ."""


class DifferenceError(K2Error):
    """Warm and cold tier differ, and a repair was refused, did not help, or was not asked for."""


class CommitUnknownError(K2Error):
    """The outcome of a commit could not be found out; the next run looks it up again."""


class TableChangedError(K2Error):
    """Somebody changed the cold table under a run: it was rolled back, or has another schema, partition spec or sort order."""


class CommitConflictError(K2Error):
    """Another writer changed the cold table between planning and commit, more often than was retried."""


class CommitRefusedError(K2Error):
    """The catalog does not allow a commit (permission, credentials, a request that it does not take)."""


class EngineError(K2Error):
    """The engine could not move a window (spark-submit missing or failed, a service unreachable)."""


class RetentionError(K2Error):
    """Warm rows past their age, or about to be deleted by a TTL, are not proven to be cold."""
