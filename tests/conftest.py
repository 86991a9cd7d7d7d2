"""What many tests share: one tiny model made once, and the folder of real data."""

from pathlib import Path

import pyarrow as pa
import pytest

from stages import base
from stages.artifacts import store, tables
from stages.data.addition import additions
from stages.experiments.sources import Addition, Scratch

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-architecture model of 30,000 random weights, with the character tokenizer."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    scratch = Scratch(hidden_size=64, layers=1, heads=2, key_value_heads=1, intermediate_size=64)
    base.make(scratch, 0, path)
    return path


@pytest.fixture(scope="session")
def questions_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve additions, four of them with a teacher trace."""
    rows, _ = additions(Addition(traced=4, answer_only=8, held_out=0), seed=0)
    path = tmp_path_factory.mktemp("questions") / "questions.parquet"
    table = pa.Table.from_pylist(rows, schema=tables.QUESTIONS.schema)
    store.write_table(path, tables.QUESTIONS, table, {})
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real benchmark items and labelled outputs; the test is skipped without it."""
    if not DATA.is_dir():
        pytest.skip(f"the real data is not at {DATA}")
    return DATA
