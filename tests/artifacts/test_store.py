"""Tables are read checked and written whole; journals lose nothing and double nothing."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.artifacts import store, tables
from stages.common.errors import UserError

ROWS = [
    {"question_id": q, "k": k, "m": 0, "verdict": "correct", "seconds": 0.5}
    for q in "ab"
    for k in range(2)
]
KEYS = [("a", 0, 0), ("a", 1, 0), ("b", 0, 0), ("b", 1, 0)]


def verdicts(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=tables.VERDICTS.schema)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "verdicts.parquet"
    store.write_table(path, tables.VERDICTS, verdicts(ROWS), {"step": "test"})
    return path


def test_a_table_comes_back_as_it_was_written(file: Path) -> None:
    assert store.read_table(file, tables.VERDICTS).to_pylist() == verdicts(ROWS).to_pylist()
    assert store.read_provenance(file) == {"step": "test"}
    assert [p.name for p in file.parent.iterdir()] == ["verdicts.parquet"]


def test_a_column_says_what_it_means(file: Path) -> None:
    assert pq.read_schema(file).field("k").metadata[b"doc"].startswith(b"Number of the trace")


def test_a_folder_of_shards_is_one_table(tmp_path: Path) -> None:
    for n, rows in enumerate((ROWS[:2], ROWS[2:])):
        store.write_table(tmp_path / f"shard-{n}.parquet", tables.VERDICTS, verdicts(rows), {})
    assert store.read_table(tmp_path, tables.VERDICTS, ["verdict"]).num_rows == 4


def test_files_of_other_writers_are_fitted_to_the_schema(tmp_path: Path) -> None:
    by_pandas = verdicts(ROWS).to_pandas().drop(columns=["extracted", "reason"])
    by_pandas.astype({"k": "int64", "m": "int64"}).to_parquet(tmp_path / "v.parquet")
    found = store.read_table(tmp_path / "v.parquet", tables.VERDICTS)
    assert found.schema.equals(tables.VERDICTS.schema)
    assert found["extracted"].null_count == 4


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pq.write_table(verdicts(ROWS).drop_columns(["verdict"]), tmp_path / "v.parquet")
    with pytest.raises(UserError, match=r"v\.parquet: column 'verdict' is missing"):
        store.read_table(tmp_path / "v.parquet", tables.VERDICTS)


def test_a_null_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [*ROWS[:2], {**ROWS[2], "verdict": None}]
    loose = pa.schema([field.with_nullable(True) for field in tables.VERDICTS.schema])
    pq.write_table(pa.Table.from_pylist(rows, schema=loose), tmp_path / "v.parquet")
    with pytest.raises(UserError, match="column 'verdict' is null in row 2"):
        store.read_table(tmp_path / "v.parquet", tables.VERDICTS)


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    data = verdicts(ROWS)
    index = data.column_names.index("seconds")
    pq.write_table(data.set_column(index, "seconds", pa.array(["x"] * 4)), tmp_path / "v.parquet")
    with pytest.raises(UserError, match="column 'seconds' is string, not double"):
        store.read_table(tmp_path / "v.parquet", tables.VERDICTS)


def test_a_doubled_key_is_named(tmp_path: Path) -> None:
    store.write_table(tmp_path / "v.parquet", tables.VERDICTS, verdicts([*ROWS, ROWS[0]]), {})
    with pytest.raises(UserError, match=r"duplicate key question_id='a', k=0, m=0 \(2 rows\)"):
        store.read_table(tmp_path / "v.parquet", tables.VERDICTS)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_file_is_named_with_the_mend(file: Path, keep: float) -> None:
    content = file.read_bytes()
    size = int(len(content) * keep) if isinstance(keep, float) else keep % len(content)
    file.write_bytes(content[:size])
    with pytest.raises(UserError, match=r"verdicts\.parquet: not a readable .* delete it and run"):
        store.read_table(file, tables.VERDICTS)
    with pytest.raises(UserError, match=r"verdicts\.parquet: not a readable .* delete it and run"):
        store.read_provenance(file)


def test_data_in_another_format_is_not_to_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "1+1"}')
    with pytest.raises(UserError, match=r"q\.jsonl: not a Parquet file; convert it") as refused:
        store.read_table(tmp_path / "q.jsonl", tables.QUESTIONS)
    assert "delete" not in str(refused.value)


@pytest.mark.parametrize("content", ["", '{"step": "fin', "[]", "\x00"])
def test_damaged_provenance_of_a_model_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert store.read_provenance(tmp_path) == {}
    (tmp_path / "provenance.json").write_text(content)
    with pytest.raises(UserError, match=r"provenance\.json: the provenance is not valid JSON"):
        store.read_provenance(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.parquet: no such file"):
        store.read_table(tmp_path / "x.parquet", tables.VERDICTS)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(file: Path) -> None:
    before = file.read_bytes()

    def pieces():
        yield verdicts(ROWS)
        raise RuntimeError("killed here")

    with pytest.raises(RuntimeError):
        store.write_table(file, tables.VERDICTS, pieces(), {})
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == ["verdicts.parquet"]


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with store.atomic(tmp_path / "model") as unfinished:
            unfinished.mkdir()
            (unfinished / content).touch()
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["new"]


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from stages.artifacts import store
with store.atomic(Path({str(tmp_path)!r}) / "model") as unfinished:
    unfinished.mkdir()
    (unfinished / "half").touch()
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code])
    assert not (tmp_path / "model").exists() and len(list(tmp_path.iterdir())) == 1
    with store.atomic(tmp_path / "model") as unfinished:
        unfinished.mkdir()
        (unfinished / "whole").touch()
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["model", "model/whole"]


def test_json_without_numbers_that_json_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
