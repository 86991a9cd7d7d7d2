"""AIME 2024 and 2025: 30 problems each; answers are integers from 0 to 999."""

import re

from stages.benchmarks import BOXED, Benchmark, Hub, Item, Row, unboxed

THIRDS = {0: "problems 1–5", 1: "problems 6–10", 2: "problems 11–15"}


def read_2024(row: Row, number: int) -> Item:
    """Fields: id, question or problem, answer or boxed solution, url (ends in the number)."""
    return _item(
        item_id=str(row["id"]),
        problem=row["question"] if "question" in row else row["problem"],
        answer=row["answer"] if "answer" in row else unboxed(row["solution"]),
        numbered=str(row.get("url") or ""),
        instruction_first=True,
    )


def read_2025(row: Row, number: int) -> Item:
    """Fields: id (``I-1`` to ``II-15``, or a number), problem, answer."""
    return _item(
        item_id=str(row["id"]),
        problem=row["problem"],
        answer=row["answer"],
        numbered=str(row["id"]) if "-" in str(row["id"]) else "",
        instruction_first=False,
    )


def _item(
    item_id: str, problem: str, answer: object, numbered: str, instruction_first: bool
) -> Item:
    place = re.search(r"(\d+)$", numbered)
    return Item(
        item_id=item_id,
        question=problem,
        # The authors put the instruction after the problems of 2025.
        prompt=BOXED + problem if instruction_first else f"{problem} {BOXED.strip()}",
        answer=str(answer),
        answer_kind="math",
        difficulty=THIRDS.get((int(place[1]) - 1) // 5) if place else None,
    )


BENCHMARKS = (
    Benchmark(
        name="aime24",
        title="AIME24",
        read=read_2024,
        samples=32,
        hub=Hub(
            "math-ai/aime24",
            "83a7f387baaa524a8bda0022eac0541582297103",
            ("test-00000-of-00001.parquet",),
        ),
        group="math",
        # Bespoke Labs, "Bespoke-Stratos", January 2025
        reference={"Bespoke-Stratos-32B": 63.3},
    ),
    Benchmark(
        name="aime25",
        title="AIME25",
        read=read_2025,
        samples=32,
        hub=Hub("math-ai/aime25", "563bb8404243c5f09de6ec262f2db674fe5bce9b", ("test.jsonl",)),
        group="math",
    ),
)
