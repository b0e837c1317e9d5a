"""The keys of a run conf. A key that nothing reads is refused, so that a misspelled one does not offload everything.

Pure.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import RunConfError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

OFFLOAD_KEYS = ("lower", "upper", "tables", "keep", "force")
COMPARISON_KEYS = ("since", "until", "tables", "repair", "force")
RETENTION_KEYS = ("tables", "dry_run")

AIRFLOWS_KEYS = ("openlineage",)
"""Keys that Airflow itself puts into a run conf: TriggerDagRunOperator passes on its own lineage."""

_OTHER_WORDS = {
    **dict.fromkeys(("since", "from", "start", "begin", "lower"), ("lower", "since")),
    **dict.fromkeys(("until", "to", "end", "upper"), ("upper", "until")),
}
"""Words for a bound that are too different to be matched by their letters."""


def refuse_unknown(conf: Mapping[str, Any], known: tuple[str, ...], declared: Collection[str] = ()) -> None:
    """Refuse keys of a run conf that nothing reads.

    With a range under a misspelled key, a different run would be green.

    :param known: the keys that are read.
    :param declared: keys that the DAG declares as params for tasks of its own.
    :raises RunConfError: naming each of them, the known ones, and the one that was probably intended.
    """
    unknown = [key for key in conf if key not in known and key not in declared and key not in AIRFLOWS_KEYS]
    if not unknown:
        return
    said = ", ".join(f"`{key}`{_meant(key, known)}" for key in unknown)
    raise RunConfError(
        f"The run conf has the unknown key{('s' if len(unknown) > 1 else '')} {said}",
        untouched="Nothing was changed",
        fix=(
            f"the keys are {', '.join(f'`{key}`' for key in known)}. One for other tasks of "
            "this DAG has to be among the DAG's params"
        ),
    )


def _meant(key: str, known: tuple[str, ...]) -> str:
    word = str(key).strip().lower()
    near = [other for other in _OTHER_WORDS.get(word, ()) if other in known]
    near = near or difflib.get_close_matches(word, known, n=1)
    return f" (`{near[0]}`?)" if near else ""
