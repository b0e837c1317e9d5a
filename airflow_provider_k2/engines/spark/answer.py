"""How a driver's answer gets to the worker: as a file, or as an object next to the table's files.

It is a file if both are on one machine. The object says how far the job is until it is the answer. Both are read, never
executed.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.commit.store import DENIES, LACKS, explain_store
from airflow_provider_k2.engines import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyiceberg.io import FileIO

Answer = dict[str, Any]

PROGRESS = "progress"
"""Key of a progress report, which is not the answer yet."""


@dataclass(frozen=True)
class AnswerPlace:
    """Where the worker finds an answer.

    :param path: a file's path, or an object's location.
    :param io: the storage of the object; None for a file.
    """

    path: str
    io: FileIO | None = None

    def take(self) -> Answer | None:
        """Read the answer, and delete the object; None when there is none.

        :raises OSError: when the store fails.
        """
        if self.io is None:
            found = Path(self.path)
            return json.loads(found.read_text(encoding="utf-8")) if found.exists() else None
        answer = self._read()
        with suppress(Exception):
            # What stays is an orphan whose name tells whose it was.
            self.io.delete(self.path)
        return None if answer is None or PROGRESS in answer else answer

    @contextmanager
    def followed(self, say: Callable[[str], None]) -> Iterator[None]:
        """Say how far a job on another machine is; one on this machine says so in the output of spark-submit.

        :param say: takes a line.
        """
        if self.io is None:
            yield
            return
        ended = threading.Event()

        def follow() -> None:
            said = None
            while not ended.wait(progress.EVERY or 0.1):
                with suppress(OSError):
                    # The answer itself will tell whether the store fails.
                    found = (self._read() or {}).get(PROGRESS)
                    if found and found != said:
                        said = found
                        say(found)

        follower = threading.Thread(target=follow, name="k2-spark-progress", daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()

    def _read(self) -> Answer | None:
        import pyarrow.parquet as pq

        assert self.io is not None
        try:
            with self.io.new_input(self.path).open() as stream:
                (text,) = pq.read_table(stream)["answer"].to_pylist()
        except OSError as error:
            # A store in which nobody may list says "denied" about an object that does not exist.
            if explain_store(error)[0] in (LACKS, DENIES):
                return None
            raise
        answer: Answer = json.loads(text)
        return answer


def write_object(io: FileIO, location: str, answer: Answer) -> None:
    """Write an answer as an object.

    It is a Parquet file with one value: a table bucket accepts no other kind of file next to a table's own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with io.new_output(location).create(overwrite=True) as stream:
        pq.write_table(pa.table({"answer": [json.dumps(answer)]}), stream)
