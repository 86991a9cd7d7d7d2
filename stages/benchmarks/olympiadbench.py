"""OlympiadBench, OE_TO_maths_en_COMP: open-ended, text-only, English competition mathematics
(He et al. 2024, arXiv 2402.14008)."""

import json

from stages.benchmarks import BOXED, Benchmark, Hub, Item, Row


def read(row: Row, number: int) -> Item:
    """Fields: id, question, final_answer (one string, maybe of several answers), unit, error."""
    if len(row["final_answer"]) != 1:
        raise ValueError(f"{len(row['final_answer'])} final answers, expected one string")
    rules = {"tolerance": row.get("error"), "unit": row.get("unit")}
    rules = {name: rule for name, rule in rules.items() if rule}
    return Item(
        item_id=str(row["id"]),
        question=row["question"],
        prompt=BOXED + row["question"],
        answer=row["final_answer"][0].replace("$", "").strip(),
        answer_kind="math",
        tests=json.dumps({"kind": "math", **rules}) if rules else None,
    )


BENCHMARKS = (
    Benchmark(
        name="olympiadbench",
        title="OlympiadBench",
        read=read,
        samples=2,
        hub=Hub(
            "Hothan/OlympiadBench",
            "91184b52131e7fc9455fef848035173aea8cc01a",
            ("OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet",),
        ),
        group="math",
    ),
)
