"""Unfinished tables: finished rows are kept as they come, so that a killed step resumes.

The folder `<output>.partial` holds `_rows`, a line per row, and `_finished.parquet`, a finished
table that is being extended. Names begin with an underscore, so that pandas and pyarrow skip them
where they read a folder of shards.

A line is `checksum TAB head TAB row`. The head is JSON (key, seconds so far, the values of a few
small columns), so that a journal is recovered without decoding rows; the row is an Arrow record
batch, compressed, in base64, so that a damaged line never hides the line after it. The first line's
head is the recipe.
"""

import binascii
import json
import os
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.artifacts.digests import check_recipe, differences, digest
from stages.artifacts.lease import Lease
from stages.artifacts.store import (
    ROWS_PER_GROUP,
    RowReader,
    describe_key,
    iter_batches,
    link,
    read_provenance,
    sync,
    write_table,
)
from stages.artifacts.tables import Table
from stages.common.errors import UserError

Key = tuple[str | int, ...]
SYNC_SECONDS = 5.0  # what a power cut may lose
BYTES_PER_GROUP = 32 << 20
LONGEST_LINE = 64 << 20


class Journal:
    """Finished rows of an unfinished table; a context manager.

    Rows that an earlier run finished count as done: those of its journal, and those of a finished
    output of the same recipe (with a smaller K, for instance).

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
        self.folder = output.with_name(output.name + ".partial")
        self.path = self.folder / "_rows"
        self.table = table
        self.recipe: dict[str, Any] = json.loads(json.dumps(recipe))
        self.identity = digest(self.recipe)
        self._columns = tuple(columns)
        self._lease = Lease(self.folder, output)
        self._lines: dict[Key, tuple[int, int]] = {}  # offset and length in `_rows`
        self._finished: dict[Key, int] = {}  # number of the row in `_finished.parquet`
        self._values: dict[Key, tuple[Any, ...]] = {}
        self._earlier_seconds = 0.0
        self._file = -1

    def __enter__(self) -> "Journal":
        self._lease.__enter__()
        try:
            self._adopt_finished()
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._started = self._synced = time.monotonic()
            if not self._recover():
                os.ftruncate(self._file, 0)
                self._write(_line(self._header()))
                self._sync()
        except BaseException:
            self._close()
            self._lease.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            self._sync()
        self._close()
        self._lease.__exit__()

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    @property
    def seconds(self) -> float:
        """Seconds spent on the rows, those of killed runs included."""
        return self._earlier_seconds + time.monotonic() - self._started

    @property
    def marks(self) -> dict[str, Any]:
        """What the output's provenance says so that a later run can adopt its rows."""
        return {"identity": self.identity, "recipe": self.recipe}

    # Rows ----------------------------------------------------------------------------------------

    def append(self, row: Mapping[str, Any]) -> None:
        """Keep one finished row; a key that is already done keeps its first row."""
        key = tuple(row[name] for name in self.table.key)
        if key in self:
            return
        self._lease.check(look=False)
        batch = pa.RecordBatch.from_pylist([row], schema=self.table.schema).serialize()
        values = {name: row.get(name) for name in self._columns}
        head = {"key": key, "seconds": self.seconds, "size": batch.size, "values": values}
        packed = binascii.b2a_base64(pa.compress(batch, "zstd", asbytes=True), newline=False)
        self._lines[key] = self._write(_line(head, packed))
        self._values[key] = tuple(values.values())
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def column(self, name: str, keys: Iterable[Key]) -> list[Any]:
        """Values of one of the `columns`, in the order of these keys."""
        index = self._columns.index(name)
        return [self._values[key][index] for key in keys]

    def rows(self, keys: Iterable[Key]) -> Iterator[dict[str, Any]]:
        """Finished rows of these keys, in their order."""
        for batch in self._batches(keys):
            yield batch.to_pylist()[0]

    def _batches(self, keys: Iterable[Key]) -> Iterator[pa.RecordBatch]:
        finished = RowReader(self._finished_path, self.table) if self._finished else None
        for key in keys:
            assert key in self, f"{self.path}: row {key} was never appended"
            if key in self._lines:
                yield self._read(key)
            elif finished is not None:
                yield finished[self._finished[key]]

    def _read(self, key: Key) -> pa.RecordBatch:
        offset, length = self._lines[key]
        head, packed = _parse(os.pread(self._file, length, offset)) or ({}, b"")
        if head.get("key") != list(key):
            raise UserError(
                f"{self.path}: the row {describe_key(self.table, key)} was damaged after it was "
                "written; run the same command again to have it computed again"
            )
        content = pa.decompress(binascii.a2b_base64(packed), head["size"], "zstd")
        return pa.ipc.read_record_batch(content, self.table.schema)

    # Finishing -----------------------------------------------------------------------------------

    def finish(
        self,
        keys: Iterable[Key],
        provenance: Mapping[str, Any],
        rows: Iterable[pa.Table] | None = None,
    ) -> None:
        """Write the rows of these keys, in their order, as the output, and remove the journal.

        `rows` are written instead where the step completes them at the end.

        Raises
        ------
        UserError
            The finished output has rows that are not among `keys`: they would be lost.
        """
        order = list(keys)
        self._check_keys(order)
        pieces = self._guarded(self._pieces(order) if rows is None else rows)
        write_table(self.output, self.table, pieces, {**provenance, **self.marks})
        self._discard()

    def _check_keys(self, keys: list[Key]) -> None:
        requested = set(keys)
        assert len(requested) == len(keys), f"{self.output}: a key is given twice"
        assert requested <= self._values.keys(), f"{self.output}: a row was never appended"
        lost = [key for key in self._finished if key not in requested]
        if lost:
            raise UserError(
                f"{self.output}: has {len(lost):,} finished rows that the settings no longer ask "
                f"for (the first is {describe_key(self.table, lost[0])}); set the settings back, "
                "choose another output path, or delete the file"
            )
        if extra := self._values.keys() - requested:
            print(
                f"{self.folder}: discarding {len(extra):,} unfinished rows that the settings no "
                "longer ask for",
                file=sys.stderr,
            )

    def _pieces(self, keys: Iterable[Key]) -> Iterator[pa.Table]:
        batches: list[pa.RecordBatch] = []
        size = 0
        for batch in self._batches(keys):
            batches.append(batch)
            size += batch.nbytes
            if len(batches) == ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
                yield pa.Table.from_batches(batches).combine_chunks()
                batches, size = [], 0
        yield pa.Table.from_batches(batches, self.table.schema)

    def _guarded(self, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The pieces, and before the file takes its name: is this process the writer still?"""
        yield from pieces
        self._lease.check()

    def _discard(self) -> None:
        """Remove the journal once its rows are in the output; the lease goes last."""
        self._close()  # an open file would keep its folder alive on network file systems
        self.path.unlink(missing_ok=True)
        self._finished_path.unlink(missing_ok=True)

    # An earlier run's rows -----------------------------------------------------------------------

    @property
    def _finished_path(self) -> Path:
        return self.folder / "_finished.parquet"

    def _adopt_finished(self) -> None:
        """Index the rows of a finished table of this recipe, and keep them from being deleted.

        A job that fails while it extends a table may have that table removed by Snakemake: a hard
        link keeps the rows.
        """
        for path in (self.output, self._finished_path):
            if path.exists():
                check_recipe(path, self.recipe)
        if self.output.exists():
            link(self.output, self._finished_path)
        if not self._finished_path.exists():
            return
        self._earlier_seconds = read_provenance(self._finished_path).get("seconds", 0.0)
        for batch in iter_batches(self._finished_path, self.table, self._columns):
            keys = zip(*(batch[name].to_pylist() for name in self.table.key), strict=True)
            columns = [batch[name].to_pylist() for name in self._columns]
            values = zip(*columns, strict=True) if columns else [()] * len(batch)
            for key, row in zip(keys, values, strict=True):
                self._finished[key] = len(self._finished)
                self._values[key] = row

    def _recover(self) -> bool:
        """Index the rows of an earlier run that are whole; False if none can be used."""
        end = good = damaged = 0
        with self.path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                start, end = end, end + len(line)
                head, _ = _parse(line) or (None, b"")
                if start == 0 and head != self._header():
                    self._report_discard(head, sum(1 for _ in file))
                    return False
                if start == 0 or (head and self._index(head, start, len(line))):
                    good = end
                else:
                    damaged += 1
        if damaged:
            print(
                f"{self.path}: {damaged:,} damaged or incomplete rows; computing them again",
                file=sys.stderr,
            )
        os.ftruncate(self._file, good)
        return good > 0

    def _index(self, head: Mapping[str, Any], offset: int, length: int) -> bool:
        """Note a row of the journal; False if the line is not one of this table's rows."""
        values = head.get("values", {})
        if "key" not in head or values.keys() != set(self._columns):
            return False
        key = tuple(head["key"])
        if key not in self:
            self._lines[key] = offset, length
            self._values[key] = tuple(values[name] for name in self._columns)
        self._earlier_seconds = max(self._earlier_seconds, head["seconds"])
        return True

    def _header(self) -> dict[str, Any]:
        schema = [f"{field.name} {field.type}" for field in self.table.schema]
        return {**self.marks, "schema": schema}

    def _report_discard(self, header: Mapping[str, Any] | None, rows: int) -> None:
        if header is None:
            reason = "its first line is damaged"
        else:
            changes = differences(header.get("recipe", {}), self.recipe)
            reason = f"settings or inputs changed ({'; '.join(changes) or 'columns of the table'})"
        if rows:
            print(f"{self.folder}: {reason}; discarding {rows:,} unfinished rows", file=sys.stderr)

    # The file ------------------------------------------------------------------------------------

    def _write(self, line: bytes) -> tuple[int, int]:
        """Append one line and return its offset and length."""
        rest = memoryview(line)
        try:
            while rest:  # a full disk may take less than all
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        return os.lseek(self._file, 0, os.SEEK_CUR) - len(line), len(line)

    def _sync(self) -> None:
        sync(self._file, self.path)
        self._synced = time.monotonic()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _line(head: Mapping[str, Any], row: bytes = b"") -> bytes:
    body = json.dumps(head, separators=(",", ":")).encode() + b"\t" + row
    return b"%08x\t%b\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Head and row of a line; None for one that is torn or damaged."""
    checksum, _, body = line.removesuffix(b"\n").partition(b"\t")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
        return None
    head, _, row = body.partition(b"\t")
    try:
        return json.loads(head), row
    except ValueError:
        return None
