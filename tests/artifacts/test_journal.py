"""Journals lose no row, duplicate no row, and never overwrite finished work of another recipe."""

import multiprocessing
import random
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


def test_one_changed_byte_costs_one_row_at_most(tmp_path: Path) -> None:
    """A valid line of JSON that is no row, for instance, is recognized by its checksum."""
    with journal(tmp_path) as first:
        for row in ROWS:
            first.append(row)
        path = first.path
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    moments = random.Random(0)
    for _ in range(200):
        place = moments.randrange(header, len(whole))
        changed = bytearray(whole)
        changed[place] = moments.choice([b for b in range(256) if b != whole[place]])
        path.write_bytes(changed)
        with journal(tmp_path) as again:
            # a line feed changed, the line after it is lost as well
            assert len(again) >= (2 if whole[place] == ord("\n") else 3)
            for row in ROWS:
                again.append(row)
            assert list(again.rows(KEYS)) == verdicts(ROWS).to_pylist()


def test_a_hole_in_the_middle_drops_only_what_it_covers(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with journal(tmp_path) as first:
        for row in ROWS:
            first.append(row)
        path = first.path
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = bytes(len(lines[2]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    with journal(tmp_path) as second:
        assert [key in second for key in KEYS] == [True, False, True, True]
        assert (
            "_rows: 1 damaged or incomplete rows; computing them again" in capsys.readouterr().err
        )
        second.append(ROWS[1])
        second.finish(KEYS, {})
    assert store.read_table(tmp_path / "v.parquet", tables.VERDICTS).num_rows == 4


@pytest.mark.parametrize("zeros", [1, 4096, 100_000])
def test_a_tail_of_zeros_costs_nothing(tmp_path: Path, zeros: int) -> None:
    with journal(tmp_path) as first:
        for row in ROWS[:3]:
            first.append(row)
        path = first.path
    path.write_bytes(path.read_bytes() + bytes(zeros))
    with journal(tmp_path) as second:
        assert len(second) == 3
        second.append(ROWS[3])
    with journal(tmp_path) as third:
        assert len(third) == 4


def test_a_row_damaged_while_the_step_runs_is_never_written(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        for row in ROWS:
            first.append(row)
        content = bytearray(first.path.read_bytes())
        content[-10] ^= 1
        first.path.write_bytes(content)
        with pytest.raises(UserError, match="question_id='b', k=1, m=0 was damaged"):
            first.finish(KEYS, {})
    assert not (tmp_path / "v.parquet").exists()


def test_a_finished_table_survives_the_failure_of_its_extension(tmp_path: Path) -> None:
    """Snakemake removes the output of a failed job; the rows are adopted all the same."""
    longer = [*ROWS, {**ROWS[0], "m": 1}, {**ROWS[1], "m": 1}]
    keys = [(row["question_id"], row["k"], row["m"]) for row in longer]
    order = [keys[4], *keys[:4], keys[5]]
    finish(tmp_path)
    for row in longer[4:]:
        with journal(tmp_path) as failing:
            failing.append(row)
        (tmp_path / "v.parquet").unlink(missing_ok=True)
    with journal(tmp_path) as again:
        assert len(again) == 6
        again.finish(order, {})
    data = store.read_table(tmp_path / "v.parquet", tables.VERDICTS).to_pylist()
    assert [(row["question_id"], row["k"], row["m"]) for row in data] == order
    assert [p.name for p in tmp_path.iterdir()] == ["v.parquet"]


def test_finished_rows_that_are_not_asked_for_are_not_dropped(tmp_path: Path) -> None:
    finish(tmp_path)
    with (
        pytest.raises(UserError, match=r"2 finished rows .* first is question_id='b', k=0, m=0"),
        journal(tmp_path) as fewer,
    ):
        fewer.finish(KEYS[:2], {})
    assert store.read_table(tmp_path / "v.parquet", tables.VERDICTS).num_rows == 4


def test_adopted_rows_come_from_many_row_groups_in_any_order(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "k": k, "reason": str(k)} for k in range(20)]
    keys = [("a", k, 0) for k in range(20)]
    pieces = [verdicts(rows[first : first + 3]) for first in range(0, 20, 3)]
    with journal(tmp_path) as whole:
        for row in rows:
            whole.append(row)
        whole.finish(keys, {}, pieces)
    with journal(tmp_path) as again:
        assert [row["reason"] for row in again.rows(keys)] == [str(k) for k in range(20)]
        backwards = list(reversed(keys))
        assert [row["k"] for row in again.rows(backwards)] == list(range(19, -1, -1))


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


def test_a_kill_between_the_rename_and_the_journals_removal_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(Journal, "_discard", lambda self: None)
        finish(tmp_path)
    assert (tmp_path / "v.parquet.partial/_rows").exists()
    for output_is_deleted in (False, True):
        if output_is_deleted:
            (tmp_path / "v.parquet").unlink()
        with journal(tmp_path) as again:
            assert len(again) == 4
    finish(tmp_path)
    data = store.read_table(tmp_path / "v.parquet", tables.VERDICTS)
    assert data.to_pylist() == verdicts(ROWS).to_pylist()
    assert [p.name for p in tmp_path.iterdir()] == ["v.parquet"]


def test_kills_at_random_moments_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    """From the start to the moments after the rename; then the table is extended the same way."""
    rows = [{**ROWS[0], "k": k, "m": m, "reason": "x" * k} for k in range(50) for m in range(2)]
    moments = random.Random(0)

    def write(count: int) -> None:
        keys = [(row["question_id"], row["k"], row["m"]) for row in rows[:count]]
        with journal(tmp_path) as whole:
            for row in rows[:count]:
                whole.append(row)
            whole.finish(keys, {})

    for count in (60, 100):
        for _ in range(15):
            child = multiprocessing.get_context("fork").Process(target=write, args=(count,))
            child.start()
            child.join(moments.uniform(0.0, 0.05))
            child.kill()
            child.join()
        write(count)
        data = store.read_table(tmp_path / "v.parquet", tables.VERDICTS)
        assert data.to_pylist() == verdicts(rows[:count]).to_pylist()
        assert [p.name for p in tmp_path.iterdir()] == ["v.parquet"]


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
