"""MMLU-Pro: 12,032 questions with up to ten options (Wang et al. 2024, arXiv 2406.01574)."""

from stages.benchmarks import BOXED, Benchmark, Hub, Item, Row, lettered


def read(row: Row, number: int) -> Item:
    """Fields: question_id, question, options, answer (a letter), answer_index."""
    options = tuple(row["options"])
    letter = chr(ord("A") + int(row["answer_index"]))
    if letter != row["answer"] or int(row["answer_index"]) >= len(options):
        raise ValueError(f"answer {row['answer']!r} is not option {row['answer_index']}")
    return Item(
        item_id=str(row["question_id"]),
        question=row["question"],
        prompt=f"{BOXED}{row['question']}\nAnswer Choices:\n{lettered(options)}",
        answer=letter,
        answer_kind="choice",
        options=options,
    )


BENCHMARKS = (
    Benchmark(
        name="mmlu_pro",
        title="MMLU-Pro",
        read=read,
        samples=1,
        hub=Hub(
            "TIGER-Lab/MMLU-Pro",
            "b189ec765aa7ed75c8acfea42df31fdae71f97be",
            ("data/test-00000-of-00001.parquet",),
        ),
        group="other",
    ),
)
