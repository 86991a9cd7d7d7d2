"""Tables of an experiment of ten thousand questions, made up, for the tests of the report."""

import numpy as np
import pyarrow as pa

from stages.artifacts import store, tables

HOSTILE = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'>"
RNG = np.random.default_rng(5)
QUESTIONS = 10_000


def write(path, table, columns, **left):
    if isinstance(columns, list):
        data = pa.Table.from_pylist(columns, schema=table.schema)
    else:
        data = pa.table({n: pa.array(v, table.schema.field(n).type) for n, v in columns.items()})
    store.write_table(path, table, data, {"device": "cpu", **left})
    return path


def samples(benchmark, items, n, chance):
    rows = []
    for item in range(items):
        p = chance(item)
        for sample in range(n):
            correct = RNG.random() < p
            rows.append(
                {
                    "benchmark": benchmark,
                    "item_id": str(item),
                    "sample": sample,
                    "seed": sample,
                    "prompt": "p",
                    "response": "r",
                    "n_tokens": int(RNG.integers(20, 60)),
                    "finish_reason": "stop" if RNG.random() < 0.97 else "length",
                    "extracted": "1" if correct else "2",
                    "verdict": "correct" if correct else "incorrect",
                    "vote": 0 if correct else 1,
                    "question": f"item {item} of {benchmark}",
                    "difficulty": f"{4 * (item % 4) + 5}–{4 * (item % 4) + 8} digits",
                }
            )
    return rows


def trace_tables(folder):
    """Tables of 10,000 questions with 4 traces each and 4 answers a trace."""
    names = np.array([f"q{number:05}" for number in range(QUESTIONS)])
    numbers = RNG.integers(10, 99999, (QUESTIONS, 3))
    texts = ["+".join(map(str, row)) for row in numbers]
    answers = [str(row.sum()) for row in numbers]
    questions = {
        "question_id": names,
        "question": [HOSTILE, *texts[1:]],
        "answer": answers,
        "answer_kind": ["math"] * QUESTIONS,
        "source": ["addition"] * QUESTIONS,
    }
    rho, accuracy = RNG.gamma(0.5, size=(QUESTIONS, 4)), RNG.choice([0, 0.5, 1], (QUESTIONS, 4))
    k = np.tile(np.arange(4), QUESTIONS)
    key = {
        "question_id": names.repeat(4),
        "k": k,
        "n_tokens": RNG.gamma(9, 6, 4 * QUESTIONS).astype(int) + 8,
    }
    written = [f"trace {k} of {answer}\n7+2=9 w9c0\n" for answer in answers for k in range(4)]
    written[0] += HOSTILE
    for trace in range(4):
        written[4 * 7777 + trace] += "needle"
    best = (rho == rho.max(axis=1, keepdims=True)).ravel()
    with np.errstate(divide="ignore"):
        log_rho, log_accuracy = np.log(rho).ravel(), np.log(accuracy).ravel()
    traces = key | {
        "seed": k,
        "token_ids": [[1]] * len(k),
        "trace": written,
        "finish_reason": ["stop"] * len(k),
        "closed": RNG.random(len(k)) < 0.9,
    }
    weights = key | {
        "log_ratio": log_rho,
        "log_answer": log_accuracy,
        "accuracy": accuracy.ravel(),
        "log_rho": log_rho + log_accuracy,
        "weight": (rho / rho.sum(axis=1, keepdims=True)).ravel(),
        "candidate": np.ones(len(k), bool),
        "selected": best,
        "row_weight": best.astype(float),
    }
    m = np.tile(np.arange(4), len(k))
    right = m < 4 * accuracy.ravel().repeat(4)
    verdicts = {
        "question_id": names.repeat(16),
        "k": k.repeat(4),
        "m": m,
        "verdict": np.where(right, "correct", np.where(m == 3, "error", "incorrect")),
        "seconds": np.full(len(m), 0.1),
    }
    root = folder / "round-1"
    cost = {"seconds": 70.0, "tokens": 260_000}
    write(folder / "questions.parquet", tables.QUESTIONS, questions, step="questions", seconds=0.4)
    write(root / "traces/shard-0000.parquet", tables.TRACES, traces, step="traces", **cost)
    write(root / "verdicts/shard-0000.parquet", tables.VERDICTS, verdicts, step="verdicts")
    write(root / "weights.parquet", tables.WEIGHTS, weights, step="weights", seconds=1.1)
    store.write_json(
        root / "weights.json",
        {
            "counts": {"questions": QUESTIONS, "traces": 4 * QUESTIONS, "excluded": {"open": 3961}},
            "shares": {"correct": 0.375, "closed": 0.9, "too_long": 0.0, "leaking": 0.031},
            "estimators": [
                {
                    "ratio": "full",
                    "answer": "accuracy",
                    "effective_sample_size": 1.037,
                    "pareto_k": None,
                    "rank_agreement": -0.125,
                    "same_choice": 0.413,
                    "chosen_accuracy": 0.5,
                }
            ],
            "bounds": [
                {
                    "k": k,
                    "bound": b - 1,
                    "bound_same_questions": b,
                    "questions": 9000,
                    "questions_at_minus_infinity": 1000,
                }
                for k, b in ((1, -9.1), (2, -7.4), (3, -6.6), (4, -6.1))
            ],
            "accuracy_against_weight": [
                {
                    "accuracy_above": above,
                    "accuracy_up_to": upto,
                    "questions": n,
                    "weight_share": ours,
                    "rejection_sampling_share": theirs,
                }
                for above, upto, n, ours, theirs in (
                    (None, 0.0, 600, 0.0, 0.0),
                    (0.0, 0.25, 3100, 0.33, 0.12),
                    (0.25, 0.5, 3700, 0.39, 0.36),
                    (0.5, 0.75, 2000, 0.21, 0.36),
                    (0.75, 1.0, 600, 0.07, 0.16),
                )
            ],
        },
    )


def training_log(folder, level):
    steps = np.arange(1, 601)
    rows = [
        {
            "step": int(s),
            "epoch": s / 100,
            "loss": float(level + 2.5 * np.exp(-s / 120) + RNG.normal(0, 0.01)),
            "eval_loss": float(level + 2.5 * np.exp(-s / 120)) if s % 100 == 0 else None,
            "grad_norm": float(np.exp(-s / 200) + 0.1),
            "learning_rate": float(2e-3 * (1 - s / 601)),
            "tokens": int(s * 900),
            "tokens_per_second": float(RNG.normal(9000, 300)),
            "memory_mib": 500.0,
            "seconds": s * 0.1,
        }
        for s in steps
    ]
    folder.mkdir(parents=True)
    write(folder / "training_log.parquet", tables.TRAINING_LOG, rows)
    store.write_json(
        folder / "provenance.json",
        {"step": "finetune", "seconds": 60.0, "tokens": 540_000, "device": "cpu"},
    )
