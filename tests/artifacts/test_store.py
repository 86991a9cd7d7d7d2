"""Tables are read checked and written whole; journals lose nothing and double nothing."""

import json
import multiprocessing
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
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
    with pytest.raises(UserError, match="question_id 'a', k 0, m 0 stands 2 times"):
        store.read_table(tmp_path / "v.parquet", tables.VERDICTS)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_file_is_named_with_the_mend(file: Path, keep: float) -> None:
    content = file.read_bytes()
    size = int(len(content) * keep) if isinstance(keep, float) else keep % len(content)
    file.write_bytes(content[:size])
    with pytest.raises(UserError, match=r"verdicts\.parquet: cannot be read .* delete it and run"):
        store.read_table(file, tables.VERDICTS)
    with pytest.raises(UserError, match=r"verdicts\.parquet: cannot be read .* delete it and run"):
        store.read_provenance(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.parquet: there is no such file"):
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


# The journal -------------------------------------------------------------------------------------


def journal(tmp_path: Path, **identity: int) -> store.Journal:
    return store.Journal(tmp_path / "v.parquet", tables.VERDICTS, identity)


def test_a_journal_goes_on_where_it_stood(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.append(ROWS[2])
        first.append(ROWS[0])
    with journal(tmp_path) as second:
        assert len(second) == 2 and KEYS[2] in second and KEYS[1] not in second
        for row in ROWS:
            second.append(row)
        second.finish(KEYS, {"step": "test"})
    done = store.read_table(tmp_path / "v.parquet", tables.VERDICTS)
    assert done.to_pylist() == verdicts(ROWS).to_pylist()
    assert [p.name for p in tmp_path.iterdir()] == ["v.parquet"]


@pytest.mark.parametrize("torn", range(1, 90, 8))
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, torn: int) -> None:
    with journal(tmp_path) as first:
        for row in ROWS:
            first.append(row)
        path = first.path
    path.write_bytes(path.read_bytes()[:-torn])
    with journal(tmp_path) as second:
        assert len(second) == 3
        second.append(ROWS[3])
        second.finish(KEYS, {})
    assert store.read_table(tmp_path / "v.parquet", tables.VERDICTS).num_rows == 4


def test_a_journal_torn_in_its_first_line_starts_afresh(tmp_path: Path) -> None:
    torn = journal(tmp_path).path
    torn.parent.mkdir()
    torn.write_bytes(b'{"identi')
    with journal(tmp_path) as begun:
        assert len(begun) == 0
        begun.append(ROWS[0])
    with journal(tmp_path) as again:
        assert len(again) == 1


def test_a_journal_of_other_settings_starts_afresh_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with journal(tmp_path, temperature=1) as first:
        first.append(ROWS[0])
    with journal(tmp_path, temperature=2) as second:
        assert len(second) == 0
    assert "v.parquet.partial: begun with other settings or inputs, dropped" in (
        capsys.readouterr().err
    )


def test_an_adoption_that_was_killed_is_completed(tmp_path: Path) -> None:
    """A longer table begins with the rows of the finished one: none of them is lost on the way."""
    with journal(tmp_path) as first:
        for row in ROWS:
            first.append(row)
        first.finish(KEYS, {})
    with journal(tmp_path) as adopting:
        path = adopting.path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    with journal(tmp_path) as again:
        assert len(again) == 4


def test_a_folder_of_shards_can_be_read_while_a_step_works_on_it(tmp_path: Path) -> None:
    store.write_table(tmp_path / "shard-0.parquet", tables.VERDICTS, verdicts(ROWS), {})
    with store.Journal(tmp_path / "shard-1.parquet", tables.VERDICTS, {}) as working:
        working.append({**ROWS[0], "m": 1})
        assert (tmp_path / "shard-1.parquet.partial").exists()
        assert len(pd.read_parquet(tmp_path)) == 4
        assert store.read_table(tmp_path, tables.VERDICTS).num_rows == 4


def test_a_finished_table_is_extended(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        for row in ROWS[:2]:
            first.append(row)
        first.finish(KEYS[:2], {"seconds": 5.0})
    with journal(tmp_path) as second:
        assert len(second) == 2
        assert second.seconds >= 5
        second.append(ROWS[2])
    with journal(tmp_path) as killed_meanwhile:
        assert len(killed_meanwhile) == 3
    with journal(tmp_path, other=1) as third:
        assert len(third) == 0


def test_two_writers_of_one_table_are_refused(tmp_path: Path) -> None:
    with journal(tmp_path), pytest.raises(UserError, match="another process is writing"):
        journal(tmp_path).__enter__()


def test_a_full_disk_keeps_what_was_written(tmp_path: Path) -> None:
    """A limit of 4 KiB a file stands for the disk: writes fail in the same place and way."""

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            with journal(tmp_path) as kept:
                for n in range(1000):
                    kept.append({**ROWS[0], "k": n})
        except OSError:
            raise SystemExit(7) from None

    child = multiprocessing.get_context("fork").Process(target=fill)
    child.start()
    child.join()
    assert child.exitcode == 7
    with journal(tmp_path) as kept:
        assert 10 < len(kept) < 100
        assert [row["k"] for row in kept.rows(("a", n, 0) for n in range(len(kept)))] == list(
            range(len(kept))
        )


# Identity ----------------------------------------------------------------------------------------


def test_a_tables_digest_is_of_its_rows_alone(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    store.write_table(other, tables.VERDICTS, verdicts(ROWS), {"step": "another", "seconds": 3})
    assert store.table_digest(file) == store.table_digest(other)
    store.write_table(other, tables.VERDICTS, verdicts(ROWS[:3]), {})
    assert store.table_digest(file) != store.table_digest(other)


def test_a_models_digest_sees_weights_and_configuration(tiny_model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    assert store.model_digest(copy) == store.model_digest(tiny_model)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert store.model_digest(copy) != store.model_digest(tiny_model)
    config = json.loads((tiny_model / "config.json").read_text())
    shutil.copy(tiny_model / "model.safetensors", weights)
    (copy / "config.json").write_text(json.dumps({**config, "rope_theta": 1}))
    assert store.model_digest(copy) != store.model_digest(tiny_model)
