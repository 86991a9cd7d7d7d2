"""Tables and other artifacts on disk: read with their schema checked, written atomically."""

import errno
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.artifacts.tables import Table
from stages.common.errors import UserError

ROWS_PER_GROUP = 4096


# Reading -----------------------------------------------------------------------------------------


def shards(path: Path) -> list[Path]:
    """Files of a table: the file itself, or the `*.parquet` of a folder in order of their names."""
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise UserError(f"{path}: contains no .parquet file")
        return files
    if not path.exists():
        raise UserError(f"{path}: no such file; run the step that writes it first")
    return [path]


def read_table(path: Path, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table from a file or a folder of shards, and check it.

    Parameters
    ----------
    path : Path
        A Parquet file, or a folder of them.
    table : Table
        Its schema. Missing optional columns are read as nulls.
    columns : sequence of str, optional
        The columns to read; the key is always read with them.

    Raises
    ------
    UserError
        A file is damaged, a column is missing, null or of another type, or a key is duplicate.
    """
    data = pa.concat_tables(iter_tables(path, table, columns))
    _check_keys(path, table, data)
    return data


def iter_tables(
    path: Path, table: Table, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the shards of a table one at a time, checked as by `read_table` except for keys."""
    names = _names(table, columns)
    for file in shards(path):
        with reading(file):
            parquet = _open(file, table, names)
            data = parquet.read([n for n in names if n in parquet.schema_arrow.names])
        yield _fit(data, table, names, file)


def iter_batches(
    path: Path, table: Table, columns: Sequence[str] | None = None, rows: int = ROWS_PER_GROUP
) -> Iterator[pa.Table]:
    """Yield a table in pieces of at most `rows` rows, for tables that do not fit into memory."""
    names = _names(table, columns)
    for file in shards(path):
        with reading(file):
            parquet = _open(file, table, names)
            present = [n for n in names if n in parquet.schema_arrow.names]
            first = 0
            for batch in parquet.iter_batches(rows, columns=present):
                yield _fit(pa.Table.from_batches([batch]), table, names, file, first)
                first += len(batch)


class RowReader:
    """Rows of a Parquet file by number, one row group in memory at a time."""

    def __init__(self, path: Path, table: Table) -> None:
        self._path, self._table = path, table
        self._file = pq.ParquetFile(path)
        self._starts = [0]
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            self._starts.append(self._starts[-1] + rows)
        self._group, self._rows = -1, table.schema.empty_table()

    def __getitem__(self, number: int) -> pa.RecordBatch:
        group = bisect_right(self._starts, number) - 1
        if group != self._group:
            names = [column.name for column in self._table.columns]
            data = self._file.read_row_group(group)
            self._rows = _fit(data, self._table, names, self._path).combine_chunks()
            self._group = group
        return self._rows.slice(number - self._starts[group], 1).to_batches()[0]


def _names(table: Table, columns: Sequence[str] | None) -> list[str]:
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
def reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if file.suffix != ".parquet":
            raise UserError(
                f"{file}: not a Parquet file; convert it, for instance with pandas' to_parquet "
                "(stages.questions reads questions from JSONL as well)"
            ) from None
        raise UserError(
            f"{file}: not a readable Parquet file ({str(error).splitlines()[0]}); restore it from "
            "its source, or, if a step of this pipeline wrote it, delete it and run that step again"
        ) from None


def _fit(
    data: pa.Table, table: Table, names: Sequence[str], file: Path, first_row: int = 0
) -> pa.Table:
    """Convert columns to the table's types; a column that cannot be converted is a UserError."""
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
    duplicate = counts.filter(pc.greater(counts["count_all"], 1)).slice(0, 1).to_pylist()[0]
    key = describe_key(table, [duplicate[name] for name in table.key])
    raise UserError(f"{path}: duplicate key {key} ({duplicate['count_all']} rows); keep one")


def describe_key(table: Table, key: Sequence[Any]) -> str:
    """A key for messages: ``question_id='a', k=0``."""
    return ", ".join(f"{name}={value!r}" for name, value in zip(table.key, key, strict=True))


def count_rows(file: Path) -> int:
    """Number of rows of a Parquet file, from its footer."""
    with reading(file):
        return pq.read_metadata(file).num_rows


def read_provenance(path: Path) -> dict[str, Any]:
    """What a step recorded about its output: {} for an artifact from elsewhere.

    `path` is a Parquet file, a folder of shards (the first one is read), or a model's directory.

    Raises
    ------
    UserError
        The provenance is damaged.
    """
    if is_model(path) and not (path / "provenance.json").exists():
        return {}
    if path.is_dir() and (path / "provenance.json").exists():
        file, text = path / "provenance.json", (path / "provenance.json").read_bytes()
    else:
        file = shards(path)[0]
        with reading(file):
            text = (pq.read_metadata(file).metadata or {}).get(b"provenance", b"{}")
    try:
        provenance = json.loads(text)
    except ValueError:
        provenance = None
    if not isinstance(provenance, dict):
        raise UserError(
            f"{file}: the provenance is not valid JSON, the artifact is incomplete or damaged; "
            f"delete {path} and run the step that writes it again"
        )
    return provenance


def is_model(path: Path) -> bool:
    """Whether a path is the directory of a model in Hugging Face format."""
    return (path / "config.json").exists()


# Writing -----------------------------------------------------------------------------------------


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` to write a file or a folder to; rename it on success.

    Readers of `path` find all of it or nothing, also after a power cut: contents reach the disk
    before the rename, and the rename before this function returns. On failure the temporary path is
    removed; what a killed process left of it, by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    remove(unfinished)
    try:
        yield unfinished
        for written in [unfinished, *(unfinished.rglob("*") if unfinished.is_dir() else ())]:
            _sync_path(written)
        if path.is_dir():
            remove(path)
        unfinished.replace(path)
        _sync_path(path.parent)
    finally:
        remove(unfinished)


def _sync_path(path: Path) -> None:
    if path.is_symlink():
        return
    file = os.open(path, os.O_RDONLY)
    try:
        sync(file, path)
    finally:
        os.close(file)


def sync(file: int, path: Path) -> None:
    """Write an open file or directory to the disk, where its file system can do that."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF):
            raise OSError(error.errno, error.strerror, str(path)) from None


def remove(path: Path) -> None:
    """Remove a file or a folder; a missing one is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def link(path: Path, name: Path) -> None:
    """Give a file a second name, by a copy where the file system has no hard links."""
    if name.exists() and name.samefile(path):
        return
    unfinished = name.with_name(f".{name.name}.tmp")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(path, unfinished)
    except OSError:
        shutil.copyfile(path, unfinished)
    unfinished.replace(name)


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file atomically.

    Raises
    ------
    ValueError
        A number is NaN or infinite, which JSON lacks.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic(path) as unfinished:
        unfinished.write_text(text + "\n")


def write_table(
    path: Path,
    table: Table,
    data: pa.Table | Iterable[pa.Table],
    provenance: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
) -> None:
    """Write a Parquet file atomically: the one writer of tables.

    Parameters
    ----------
    path : Path
        The file.
    table : Table
        Its schema; columns are put in order, missing optional ones become null.
    data : Table or iterable of Table
        The rows; an iterable is written piece by piece, in bounded memory.
    provenance : mapping or callable
        What `read_provenance` returns, or a function that returns it once all rows are written.
    """
    names = [c.name for c in table.columns]
    with (
        atomic(path) as unfinished,
        pq.ParquetWriter(unfinished, table.schema, compression="zstd") as writer,
    ):
        for piece in [data] if isinstance(data, pa.Table) else data:
            writer.write_table(_fit(piece, table, names, path), row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata(
            {"provenance": json.dumps(provenance() if callable(provenance) else provenance)}
        )
