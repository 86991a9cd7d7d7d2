"""Unfinished tables: finished rows are kept as they come, so that a killed step resumes."""

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.artifacts.digests import differences, digest
from stages.artifacts.store import (
    ROWS_PER_GROUP,
    iter_batches,
    read_provenance,
    remove,
    write_table,
)
from stages.artifacts.tables import Table
from stages.common.errors import UserError

Key = tuple[str | int, ...]


class Journal:
    """Finished rows of an unfinished table, one JSON line each, in the folder `<output>.partial`.

    The file's name begins with an underscore, so that pandas and pyarrow skip it where they read a
    folder of shards. Used as a context manager. Rows that an earlier run finished count as done:
    those of its journal, and those of a finished output of the same recipe (with a smaller K, for
    instance).

    Parameters
    ----------
    output : Path
        The table to write.
    table : Table
        Its schema.
    recipe : mapping
        All that the rows depend on besides their keys, as JSON values. A journal of another recipe
        is discarded, a finished output of another recipe is an error.
    columns : sequence of str
        Small columns whose values `column` returns without reading the rows again.

    Raises
    ------
    UserError
        Another process is writing the same output, or the output was finished with another recipe
        or by somebody else.
    """

    def __init__(
        self,
        output: Path,
        table: Table,
        recipe: Mapping[str, Any],
        columns: Sequence[str] = (),
    ) -> None:
        self.output = output
        self.path = output.with_name(output.name + ".partial") / "_rows.jsonl"
        self.table = table
        self.recipe: dict[str, Any] = json.loads(json.dumps(recipe))
        self.identity = digest(self.recipe)
        self._columns = tuple(columns)
        self._offsets: dict[Key, int] = {}
        self._values: dict[Key, tuple[Any, ...]] = {}
        self._earlier_seconds = 0.0

    def __enter__(self) -> "Journal":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(
                f"{self.output}: another process is writing this table; wait for it or stop it"
            ) from None
        self._started = time.monotonic()
        try:
            self._check_output()
            if not self._recover():
                self._file.truncate(0)
                self._write({"identity": self.identity, "recipe": self.recipe})
            self._adopt_output()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: Key) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def seconds(self) -> float:
        """Seconds spent on the rows, those of killed runs included."""
        return self._earlier_seconds + time.monotonic() - self._started

    def append(self, row: Mapping[str, Any]) -> None:
        """Keep one finished row; a key that is already done keeps its first row."""
        key = self._key(row)
        if key not in self._offsets:
            self._index(row, self._write({"seconds": self.seconds, "row": dict(row)}))

    def column(self, name: str, keys: Iterable[Key]) -> list[Any]:
        """Values of one of the `columns`, in the order of these keys."""
        index = self._columns.index(name)
        return [self._values[key][index] for key in keys]

    def rows(self, keys: Iterable[Key]) -> Iterator[dict[str, Any]]:
        """Finished rows of these keys, in their order."""
        for key in keys:
            assert key in self._offsets, f"{self.path}: row {key} was never appended"
            self._file.seek(self._offsets[key])
            yield json.loads(self._file_line())["row"]

    def finish(self, keys: Iterable[Key], provenance: Mapping[str, Any]) -> None:
        """Write the rows of these keys, in their order, as the output, and remove the journal."""
        write_table(self.output, self.table, self._pieces(keys), {**provenance, **self.marks})
        self.discard()

    @property
    def marks(self) -> dict[str, Any]:
        """What the output's provenance says so that a later run can adopt its rows."""
        return {"identity": self.identity, "recipe": self.recipe}

    def discard(self) -> None:
        """Remove the journal once its rows are in the output."""
        self._file.close()  # an open file would keep its folder alive on network file systems
        remove(self.path.parent)

    def _pieces(self, keys: Iterable[Key]) -> Iterator[pa.Table]:
        rows: list[dict[str, Any]] = []
        for row in self.rows(keys):
            rows.append(row)
            if len(rows) == ROWS_PER_GROUP:
                yield pa.Table.from_pylist(rows, schema=self.table.schema)
                rows = []
        yield pa.Table.from_pylist(rows, schema=self.table.schema)

    def _key(self, row: Mapping[str, Any]) -> Key:
        return tuple(row[name] for name in self.table.key)

    def _index(self, row: Mapping[str, Any], offset: int) -> None:
        key = self._key(row)
        self._offsets[key] = offset
        self._values[key] = tuple(row.get(name) for name in self._columns)

    def _file_line(self) -> bytes:
        pieces = []
        while piece := self._file.read(1 << 16):
            head, newline, _ = piece.partition(b"\n")
            pieces.append(head)
            if newline:
                break
        return b"".join(pieces)

    def _write(self, record: Mapping[str, Any]) -> int:
        """Append one line in one system call and give its offset."""
        offset = self._file.seek(0, os.SEEK_END)
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            while line:  # a full disk may take less than all
                line = line[self._file.write(line) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        return offset

    def _recover(self) -> bool:
        """Index the rows of an earlier run, less a torn last one; False if there are none."""
        offset = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines):
                try:
                    record = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    record = None
                if record is None:
                    break
                if number == 0 and record.get("identity") != self.identity:
                    self._report_discard(record, sum(1 for _ in lines))
                    return False
                if "row" in record:
                    self._index(record["row"], offset)
                    self._earlier_seconds = record["seconds"]
                offset += len(line)
        self._file.truncate(offset)
        return offset > 0

    def _report_discard(self, header: Mapping[str, Any], rows: int) -> None:
        changes = "; ".join(differences(header.get("recipe", {}), self.recipe))
        print(
            f"{self.path.parent}: settings or inputs changed ({changes}); "
            f"discarding {rows:,} unfinished rows",
            file=sys.stderr,
        )

    def _check_output(self) -> None:
        """Refuse to overwrite a finished table that this recipe would not have made."""
        if not self.output.exists():
            return
        earlier = read_provenance(self.output)
        if earlier.get("identity") == self.identity:
            return
        if not earlier:
            raise UserError(
                f"{self.output}: was not written by this pipeline (it has no provenance) and is "
                "not overwritten; choose another output path, or move the file"
            )
        recipe = earlier.get("recipe")
        changes = differences(recipe, self.recipe) if recipe else ["written by an earlier version"]
        raise UserError(
            f"{self.output}: finished with other settings or inputs and not overwritten:\n"
            + "".join(f"  {change}\n" for change in changes)
            + "Set them back, or choose another output path (another experiment), or delete the "
            "file to have it computed again"
        )

    def _adopt_output(self) -> None:
        if not self.output.exists():
            return
        seconds = read_provenance(self.output).get("seconds", 0.0)
        self._earlier_seconds = max(self._earlier_seconds, seconds)
        for batch in iter_batches(self.output, self.table):
            for row in batch.to_pylist():
                self.append(row)
