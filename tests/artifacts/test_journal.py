"""Journals lose no row, duplicate no row, and never overwrite finished work of another recipe."""

import multiprocessing
import resource
import signal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from stages.artifacts import store, tables
from stages.artifacts.digests import digest
from stages.artifacts.journal import Journal
from stages.common.errors import UserError

ROWS = [
    {"question_id": q, "k": k, "m": 0, "verdict": "correct", "seconds": 0.5}
    for q in "ab"
    for k in range(2)
]
KEYS = [("a", 0, 0), ("a", 1, 0), ("b", 0, 0), ("b", 1, 0)]


def verdicts(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=tables.VERDICTS.schema)


def journal(tmp_path: Path, **recipe: object) -> Journal:
    return Journal(tmp_path / "v.parquet", tables.VERDICTS, recipe, ("verdict",))


def finish(tmp_path: Path, **recipe: object) -> None:
    with journal(tmp_path, **recipe) as whole:
        for row in ROWS:
            whole.append(row)
        whole.finish(KEYS, {"step": "test"})


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


def test_unfinished_rows_of_other_settings_are_discarded_with_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with journal(tmp_path, temperature=1, seed=0) as first:
        for row in ROWS:
            first.append(row)
    with journal(tmp_path, temperature=2) as second:
        assert len(second) == 0
        second.append(ROWS[1])
    assert capsys.readouterr().err == (
        f"{tmp_path}/v.parquet.partial: settings or inputs changed (temperature: 1 -> 2; "
        "seed: 0 -> default); discarding 4 unfinished rows\n"
    )
    with journal(tmp_path, temperature=2) as again:
        assert len(again) == 1
    assert capsys.readouterr().err == ""


def test_a_finished_table_of_other_settings_is_not_overwritten(tmp_path: Path) -> None:
    finish(tmp_path, traces={"temperature": 0.7})
    before = (tmp_path / "v.parquet").read_bytes()
    changed = r"(?s)finished with other settings.*  traces.temperature: 0.7 -> 1.0\nSet them back"
    with pytest.raises(UserError, match=changed), journal(tmp_path, traces={"temperature": 1.0}):
        pass
    assert (tmp_path / "v.parquet").read_bytes() == before


def test_a_table_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    verdicts(ROWS).to_pandas().to_parquet(tmp_path / "v.parquet")
    with pytest.raises(UserError, match="was not written by this pipeline"), journal(tmp_path):
        pass
    assert len(pd.read_parquet(tmp_path / "v.parquet")) == 4


def test_the_output_carries_its_recipe(tmp_path: Path) -> None:
    finish(tmp_path, seed=3)
    left = store.read_provenance(tmp_path / "v.parquet")
    assert left == {"step": "test", "recipe": {"seed": 3}, "identity": digest({"seed": 3})}


def test_small_columns_are_known_without_reading_rows_again(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.append({**ROWS[0], "verdict": "error"})
    with journal(tmp_path) as second:
        second.append(ROWS[1])
        assert second.column("verdict", [KEYS[1], KEYS[0]]) == ["correct", "error"]
        second.finish(KEYS[:2], {})
    with journal(tmp_path) as third:
        assert third.column("verdict", KEYS[:2]) == ["error", "correct"]


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
    with Journal(tmp_path / "shard-1.parquet", tables.VERDICTS, {}) as working:
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
