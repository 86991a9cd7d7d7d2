"""Real labelled outputs, and pools that the tests of this room share."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.verifiers import Pool

DATA = Path(__file__).parents[3] / "shared" / "data"
Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def rows() -> Callable[[str], Rows]:
    """Read a file of the shared data, given as `verifier/math_pairs` for instance."""

    def read(name: str) -> Rows:
        path = DATA / f"{name}.jsonl"
        if not path.exists():
            pytest.skip(f"the shared data is not here: {path}")
        return [json.loads(line) for line in path.read_text().splitlines()]

    return read


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Two workers under the default limits."""
    with Pool(workers=2) as shared:
        yield shared
