"""AMC23: 40 problems of the AMC 12 of 2023 with integer answers."""

from stages.benchmarks import BOXED, Benchmark, Hub, Item, Row


def read(row: Row, number: int) -> Item:
    """Fields: id, question, answer (a float such as 27.0)."""
    answer = float(row["answer"])
    return Item(
        item_id=str(row["id"]),
        question=row["question"],
        prompt=BOXED + row["question"],
        answer=str(int(answer)) if answer.is_integer() else str(answer),
        answer_kind="math",
    )


BENCHMARKS = (
    Benchmark(
        name="amc23",
        title="AMC23",
        read=read,
        samples=32,
        hub=Hub(
            "math-ai/amc23",
            "80815d37005feb82cd7f8fbc6901d5d3eff43057",
            ("test-00000-of-00001.parquet",),
        ),
        group="math",
    ),
)
