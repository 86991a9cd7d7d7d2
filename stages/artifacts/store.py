"""Tables and other artifacts on disk: read with their schema checked, written atomically."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        with reading(file):
            parquet = _open(file, table, names)
            found = parquet.read([n for n in names if n in parquet.schema_arrow.names])
        yield _fit(found, table, names, file)


def iter_batches(
    path: Path, table: Table, columns: Sequence[str] | None = None, rows: int = ROWS_PER_GROUP
) -> Iterator[pa.Table]:
    """The same in pieces of at most so many rows, for tables that do not fit into memory."""
    names = _wanted(table, columns)
    for file in shards(path):
        with reading(file):
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
def reading(file: Path) -> Iterator[None]:
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
    with reading(file):
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
    remove(unfinished)
    try:
        yield unfinished
        if path.is_dir():
            remove(path)
        unfinished.replace(path)
    finally:
        remove(unfinished)


def remove(path: Path) -> None:
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
