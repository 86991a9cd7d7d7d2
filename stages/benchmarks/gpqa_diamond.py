r"""GPQA-Diamond: 198 expert questions with four options (Rein et al. 2023, arXiv 2311.12022).

The source lists the correct answer first. Options are shuffled with a seed per question, the same
in every experiment, and the order is stored with the samples.
"""

import random

from stages.benchmarks import Benchmark, Hub, Item, Row, lettered
from stages.common.seeds import derive_seed

INSTRUCTION = (
    r"Return your final response within \boxed{} and only include the letter choice (A, B, C, or "
    "D) as your final response. "
)


def read(row: Row, number: int) -> Item:
    """Columns of gpqa_diamond.csv: Record ID, Question, Correct Answer, Incorrect Answer 1 to 3."""
    record = row["Record ID"]
    texts = [row["Correct Answer"], *(row[f"Incorrect Answer {i}"] for i in (1, 2, 3))]
    order = list(range(4))
    random.Random(derive_seed(0, "options", "gpqa_diamond", record)).shuffle(order)
    options = tuple(texts[i].strip() for i in order)
    return Item(
        item_id=record,
        question=row["Question"],
        prompt=f"{INSTRUCTION}{row['Question'].strip()}\nAnswer Choices:\n{lettered(options)}",
        answer="ABCD"[order.index(0)],
        answer_kind="choice",
        options=options,
        difficulty=row.get("Writer's Difficulty Estimate") or None,
        option_order=tuple(order),
    )


BENCHMARKS = (
    Benchmark(
        name="gpqa_diamond",
        title="GPQA-Diamond",
        read=read,
        samples=8,
        hub=Hub(
            "Idavidrein/gpqa", "633f5ee89ab8ad4522a9f850766b73f62147ffdd", ("gpqa_diamond.csv",)
        ),
        group="other",
        # Bespoke Labs, "Bespoke-Stratos", January 2025
        reference={"Bespoke-Stratos-32B": 58.1},
    ),
)
