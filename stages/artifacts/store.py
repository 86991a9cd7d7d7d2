"""Tables and other artifacts on disk: read with their schema checked, written whole or not at all.

An unfinished table is a journal, `<output>.partial`: every finished row is kept there as it comes,
so that a killed step goes on where it stood.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.artifacts.tables import Table
from stages.common.errors import UserError

Key = tuple[str | int, ...]
ROWS_PER_GROUP = 4096


# Reading -----------------------------------------------------------------------------------------


def shards(path: Path) -> list[Path]:
    """Files of a table: the file itself, or the `*.parquet` of a folder in order of their names."""
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise UserError(f"{path}: the folder holds no .parquet file")
        return files
    if not path.exists():
        raise UserError(f"{path}: there is no such file; run the step that makes it first")
    return [path]


def read_table(path: Path, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table from a file or a folder of shards, and check it.

    Parameters
    ----------
    path : Path
        A Parquet file, or a folder of them.
    table : Table
        What it should be. Optional columns that are left out come back as nulls.
    columns : sequence of str, optional
        The columns wanted; the key always comes with them.

    Raises
    ------
    UserError
        A file is damaged, a column is missing, strange or null, or a key stands twice.
    """
    data = pa.concat_tables(iter_tables(path, table, columns))
    _check_keys(path, table, data)
    return data


def iter_tables(
    path: Path, table: Table, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the shards of a table one at a time, each checked as by `read_table` save for keys."""
    names = _wanted(table, columns)
    for file in shards(path):
        with _reading(file):
            parquet = _open(file, table, names)
            found = parquet.read([n for n in names if n in parquet.schema_arrow.names])
        yield _fit(found, table, names, file)


def iter_batches(
    path: Path, table: Table, columns: Sequence[str] | None = None, rows: int = ROWS_PER_GROUP
) -> Iterator[pa.Table]:
    """The same in pieces of at most so many rows, for tables that do not fit into memory."""
    names = _wanted(table, columns)
    for file in shards(path):
        with _reading(file):
            parquet = _open(file, table, names)
            found = [n for n in names if n in parquet.schema_arrow.names]
            first = 0
            for batch in parquet.iter_batches(rows, columns=found):
                yield _fit(pa.Table.from_batches([batch]), table, names, file, first)
                first += len(batch)


def _wanted(table: Table, columns: Sequence[str] | None) -> list[str]:
    return [c.name for c in table.columns if columns is None or c.name in {*columns, *table.key}]


def _open(file: Path, table: Table, names: list[str]) -> pq.ParquetFile:
    parquet = pq.ParquetFile(file)
    missing = [n for n in names if n in table.required and n not in parquet.schema_arrow.names]
    if missing:
        raise UserError(
            f"{file}: column {missing[0]!r} is missing; "
            f"a {table.name} table has {', '.join(c.name for c in table.columns)}"
        )
    return parquet


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file}: cannot be read as Parquet, it is truncated or damaged "
            f"({str(error).splitlines()[0]}); delete it and run the same command again"
        ) from None


def _fit(
    data: pa.Table, table: Table, names: Sequence[str], file: Path, first_row: int = 0
) -> pa.Table:
    """Give the data the table's own types, or say which column does not fit."""
    columns = []
    for name in names:
        field = table.schema.field(name)
        if name not in data.column_names:
            columns.append(pa.nulls(len(data), field.type))
            continue
        column = data.column(name)
        try:
            column = column if column.type == field.type else column.cast(field.type)
        except pa.ArrowException as error:
            raise UserError(
                f"{file}: column {name!r} is {column.type}, not {field.type}: {error}"
            ) from None
        if column.null_count and not field.nullable:
            row = first_row + pc.index(column.is_null(), True).as_py()
            raise UserError(f"{file}: column {name!r} is null in row {row}; fill it in")
        columns.append(column)
    return pa.table(columns, schema=pa.schema([table.schema.field(n) for n in names]))


def _check_keys(path: Path, table: Table, data: pa.Table) -> None:
    counts = data.group_by(list(table.key)).aggregate([([], "count_all")])
    if len(counts) == len(data):
        return
    double = counts.filter(pc.greater(counts["count_all"], 1)).slice(0, 1).to_pylist()[0]
    key = ", ".join(f"{name} {double[name]!r}" for name in table.key)
    raise UserError(f"{path}: {key} stands {double['count_all']} times; keep one of them")


def read_provenance(path: Path) -> dict[str, Any]:
    """What an artifact's step left about itself: {} for a file that somebody else made.

    `path` is a Parquet file, a folder of shards (the first one speaks), or a model's directory.
    """
    if (path / "provenance.json").exists():
        return json.loads((path / "provenance.json").read_text())
    if (path / "config.json").exists():
        return {}  # a model that somebody else made
    file = shards(path)[0]
    with _reading(file):
        metadata = pq.read_metadata(file).metadata or {}
    return json.loads(metadata.get(b"provenance", b"{}"))


# Writing -----------------------------------------------------------------------------------------


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or a folder to; rename it when all went well.

    Whoever reads `path` finds all of it or nothing. What was written is removed on failure, and
    what a killed process left behind by the next one: a model is large.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    _remove(unfinished)
    try:
        yield unfinished
        if path.is_dir():
            _remove(path)
        unfinished.replace(path)
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, indented, whole or not at all. NaN and infinities are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic(path) as unfinished:
        unfinished.write_text(text + "\n")


def write_table(
    path: Path, table: Table, data: pa.Table | Iterable[pa.Table], provenance: Mapping[str, Any]
) -> None:
    """Write a Parquet file, whole or not at all: the one writer of tables.

    Parameters
    ----------
    path : Path
        The file.
    table : Table
        Its schema; columns are put in order, optional ones that are left out become null.
    data : Table or iterable of Table
        The rows; an iterable is written piece by piece, in bounded memory.
    provenance : mapping
        What `read_provenance` gives back.
    """
    names = [c.name for c in table.columns]
    with (
        atomic(path) as unfinished,
        pq.ParquetWriter(unfinished, table.schema, compression="zstd") as writer,
    ):
        for piece in [data] if isinstance(data, pa.Table) else data:
            writer.write_table(_fit(piece, table, names, path), row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({"provenance": json.dumps(provenance)})


# Identity ----------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """Short name of a JSON value: the first 16 hex digits of its SHA-256."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Short name of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def table_digest(path: Path) -> str:
    """Short name of the rows of a table; how, when and by whom it was written is not in it."""
    names = []
    for file in shards(path):
        content = hashlib.sha256()
        with _reading(file):
            for piece in _even_pieces(pq.ParquetFile(file)):
                buffer = pa.BufferOutputStream()
                with pa.ipc.new_stream(buffer, bare := _without_metadata(piece.schema)) as stream:
                    stream.write_table(piece.replace_schema_metadata().cast(bare))
                content.update(buffer.getvalue())
        names.append(content.hexdigest())
    return digest(names)


def _even_pieces(parquet: pq.ParquetFile) -> Iterator[pa.Table]:
    """The rows in pieces of `ROWS_PER_GROUP` and a rest, however they are grouped in the file."""
    held = parquet.schema_arrow.empty_table()
    for batch in parquet.iter_batches(ROWS_PER_GROUP):
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        while len(held) >= ROWS_PER_GROUP:
            yield held.slice(0, ROWS_PER_GROUP).combine_chunks()
            held = held.slice(ROWS_PER_GROUP)
    yield held.combine_chunks()


def _without_metadata(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.remove_metadata() for field in schema])


def identity(path: Path) -> str:
    """Short name of what determined a table's rows: equal for a table and a longer one of its kind.

    That is the identity its journal left, or its content where somebody else made it.
    """
    return read_provenance(path).get("identity") or table_digest(path)


def model_digest(model: Path) -> str:
    """Short name of a model: its small files whole, its weights by size, beginning and end."""
    parts = []
    for file in sorted(model.glob("*")):
        if file.suffix == ".safetensors":
            size, edge = file.stat().st_size, 1 << 20
            with file.open("rb") as weights:
                head = weights.read(edge)
                weights.seek(max(0, size - edge))
                ends = hashlib.sha256(head + weights.read(edge)).hexdigest()
            parts.append([file.name, size, ends])
        elif file.name in ("config.json", "generation_config.json", "tokenizer.json"):
            parts.append([file.name, file_digest(file)])
    return digest(parts)


def tokenizer_digest(model: Path) -> str:
    """Short name of a model's tokenizer: equal when both turn text into the same tokens."""
    for name in ("tokenizer.json", "vocab.json", "tokenizer.model"):
        if (model / name).exists():
            return file_digest(model / name)
    raise UserError(
        f"{model}: there is no tokenizer.json; give a directory made by "
        "transformers' save_pretrained, tokenizer included"
    )


def same_tokenizer(traces: Path, model: Path) -> None:
    """Refuse a model whose tokenizer differs from that of the model that wrote the traces."""
    wrote = read_provenance(traces).get("tokenizer")
    if wrote is not None and wrote != tokenizer_digest(model):
        raise UserError(
            f"{model}: its tokenizer differs from that of the model that wrote {traces}; token ids "
            "mean different texts to them. Prior and posterior must come from one base model"
        )


# The journal -------------------------------------------------------------------------------------


class Journal:
    """Finished rows of an unfinished table, one JSON line each, in the folder `<output>.partial`.

    Its name begins with an underscore, so that it is no data to pandas and pyarrow where they read
    a folder of shards. Used as a context manager. Rows that an earlier run finished, in the journal
    or in an output of the same identity (made with a smaller K, for instance), count as done.

    Parameters
    ----------
    output : Path
        The table to be.
    table : Table
        Its schema.
    identity : mapping
        All that the rows depend on beside their keys: settings, digests of models and inputs. A
        journal of another identity is started afresh.

    Raises
    ------
    UserError
        Another process is writing the same output.
    """

    def __init__(self, output: Path, table: Table, identity: Mapping[str, Any]) -> None:
        self.output = output
        self.path = output.with_name(output.name + ".partial") / "_rows.jsonl"
        self.table = table
        self.identity = digest({"table": table.name, **identity})
        self._offsets: dict[Key, int] = {}
        self._earlier_seconds = 0.0

    def __enter__(self) -> "Journal":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(
                f"{self.output}: another process is writing it; wait for it, or end it"
            ) from None
        self._started = time.monotonic()
        if not self._recover():
            self._file.truncate(0)
            self._write({"identity": self.identity})
        self._adopt_output()
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
        """Keep one finished row; a row whose key is there already is left as it was."""
        key = self._key(row)
        if key not in self._offsets:
            self._offsets[key] = self._write({"seconds": self.seconds, "row": dict(row)})

    def rows(self, keys: Iterable[Key]) -> Iterator[dict[str, Any]]:
        """Finished rows of these keys, in their order."""
        for key in keys:
            if key not in self._offsets:
                raise AssertionError(f"{self.path}: row {key} was never finished")
            self._file.seek(self._offsets[key])
            yield json.loads(self._file_line())["row"]

    def finish(self, keys: Iterable[Key], provenance: Mapping[str, Any]) -> None:
        """Write the rows of these keys, in their order, as the output, and remove the journal."""
        marked = {**provenance, "identity": self.identity}
        write_table(self.output, self.table, self._pieces(keys), marked)
        self.discard()

    def discard(self) -> None:
        """Remove the journal, its rows being safe elsewhere."""
        self._file.close()  # an open file would keep its folder alive on network file systems
        _remove(self.path.parent)

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
        """Take over the lines of an earlier run, less a torn last one; False if it was another."""
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
                    dropped = f"{self.path.parent}: begun with other settings or inputs, dropped"
                    print(dropped, file=sys.stderr)
                    return False
                if "row" in record:
                    self._offsets[self._key(record["row"])] = offset
                    self._earlier_seconds = record["seconds"]
                offset += len(line)
        self._file.truncate(offset)
        return offset > 0

    def _adopt_output(self) -> None:
        if not self.output.exists():
            return
        earlier = read_provenance(self.output)
        if earlier.get("identity") != self.identity:
            return
        self._earlier_seconds = max(self._earlier_seconds, earlier.get("seconds", 0.0))
        for batch in iter_batches(self.output, self.table):
            for row in batch.to_pylist():
                self.append(row)
