"""MATH500: 500 problems of MATH's test split (Lightman et al. 2023, arXiv 2305.20050)."""

from stages.benchmarks import BOXED, Benchmark, Hub, Item, Row


def read(row: Row, number: int) -> Item:
    """Fields: problem, answer, level, unique_id."""
    problem = row["problem"]
    return Item(
        item_id=row["unique_id"],
        question=problem,
        prompt=BOXED + problem,
        answer=row["answer"],
        answer_kind="math",
        difficulty=f"level {row['level']}",
    )


BENCHMARKS = (
    Benchmark(
        name="math500",
        title="MATH500",
        read=read,
        samples=2,
        hub=Hub(
            "HuggingFaceH4/MATH-500", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be", ("test.jsonl",)
        ),
        group="math",
        # Bespoke Labs, "Bespoke-Stratos", January 2025
        reference={"Bespoke-Stratos-32B": 93.0},
    ),
)
