"""The held-out questions of an experiment: a `questions` table that no model was trained on."""

import re

from stages.benchmarks import Benchmark, Item, Row


def read(row: Row, number: int) -> Item | None:
    """Columns of a `questions` table; unverifiable questions are skipped."""
    if row["answer_kind"] == "none":
        return None
    return Item(
        item_id=row["question_id"],
        question=row["question"],
        prompt=row["question"],
        answer=row["answer"],
        answer_kind=row["answer_kind"],
        options=tuple(row["options"]) if row.get("options") else None,
        tests=row.get("tests"),
        difficulty=digits(row["question"]),
    )


def digits(question: str) -> str | None:
    """Difficulty of a column addition by its number of digits; None for any other question."""
    if not re.fullmatch(r" *\d+(\+ *\d+)+", question):
        return None
    low = (len(re.sub(r"\D", "", question)) - 1) // 4 * 4 + 1
    return f"{low}–{low + 3} digits"


BENCHMARKS = (Benchmark(name="held_out", title="Held-out questions", read=read, samples=4),)
