"""GSM8K: 1,319 grade-school word problems (Cobbe et al. 2021, arXiv 2110.14168)."""

from stages.benchmarks import BOXED, Benchmark, Hub, Item, Row


def read(row: Row, number: int) -> Item:
    """Fields: question, answer (one line per solution step, then the number after ####)."""
    solution, marker, answer = row["answer"].rpartition("####")
    if not marker:
        raise ValueError("the answer has no ####")
    steps = len(solution.strip().splitlines())
    return Item(
        item_id=str(number),
        question=row["question"],
        prompt=BOXED + row["question"],
        answer=answer.strip().replace(",", ""),
        answer_kind="math",
        difficulty="6+ steps" if steps > 5 else "1 step" if steps == 1 else f"{steps} steps",
    )


BENCHMARKS = (
    Benchmark(
        name="gsm8k",
        title="GSM8K",
        read=read,
        samples=1,
        hub=Hub(
            "openai/gsm8k",
            "cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
            ("main/test-00000-of-00001.parquet",),
        ),
    ),
)
