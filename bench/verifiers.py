r"""Speed of the verifiers, compared with a plain loop of math-verify in the same run.

python -m bench.verifiers [--data FOLDER]

FOLDER holds `math_labelled_*.jsonl` (gold, answer, correct) and `code_labelled.jsonl` (answer,
tests, correct). Mathematics: verdicts a second of a plain loop of `parse` and `verify`, which is
given the boxed gold and the whole answer, and of a pool: with its start, with an empty cache, with
a full one. Programs: verdicts a second of a pool, for short programs and for the labelled ones.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.verifiers import Pool, VerifyOptions
from stages.verifiers.math import compare, quantities

DATA = Path(__file__).parents[2] / "shared" / "data" / "verifier"
SHORT = {
    "stdin": (
        {"kind": "stdin", "inputs": ["3 4\n", "5 6\n"], "outputs": ["7\n", "11\n"]},
        "print(sum(map(int, input().split())))",
    ),
    "call": (
        {"kind": "call", "entry_point": "f", "inputs": [[3, 4], [5, 6]], "outputs": [7, 11]},
        "def f(a, b):\n    return a + b",
    ),
    "assert": (
        {"kind": "assert", "code": "assert f(3, 4) == 7\nassert f(5, 6) == 11"},
        "def f(a, b):\n    return a + b",
    ),
}


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of labelled answers")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    print(f"{args.workers} workers, load {os.getloadavg()[0]:.1f} at the start")
    for name in ("math_labelled_gsm8k", "math_labelled_math"):
        mathematics(name, read(args.data / f"{name}.jsonl"), args.workers)
    programs(read(args.data / "code_labelled.jsonl"), args.workers)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def mathematics(name: str, rows: list[dict[str, Any]], workers: int) -> None:
    """Compare a plain loop with a pool on one labelled set."""
    tasks = [(i, row["answer"], row["gold"], "math", None) for i, row in enumerate(rows)]
    labels = [row["correct"] for row in rows]
    plain_seconds, plain = timed(lambda: plain_loop(rows))
    with Pool(workers) as pool:
        start_seconds, _ = timed(lambda: judged(pool, tasks))
    with Pool(workers) as pool:
        start(pool)
        forget()
        cold_seconds, verdicts = timed(lambda: judged(pool, tasks))
        warm_seconds, again = timed(lambda: judged(pool, tasks))
    print(f"\n{name}: {len(rows)} answers")
    for what, seconds, results in (
        ("math-verify in a plain loop", plain_seconds, plain),
        ("pool, its start included", start_seconds, verdicts),
        ("pool, nothing cached", cold_seconds, verdicts),
        ("pool, the same again", warm_seconds, again),
    ):
        wrong = sum(a != b for a, b in zip(results, labels, strict=True))
        differ = sum(a != b for a, b in zip(results, plain, strict=True))
        print(
            f"  {what:30} {len(rows) / seconds:9,.0f}/s  {plain_seconds / seconds:7.1f} x  "
            f"{wrong} against labels, {differ} against the plain loop"
        )


def plain_loop(rows: list[dict[str, Any]]) -> list[bool]:
    """What everybody writes: parse the gold, parse the answer, verify."""
    from math_verify import parse, verify

    return [
        verify(parse(f"\\boxed{{{row['gold']}}}"), parse(row["answer"])) is True for row in rows
    ]


def judged(pool: Pool, tasks: list[tuple]) -> list[bool]:
    """Whether each answer is correct, in the order of the tasks."""
    by_key = {key: verdict.verdict == "correct" for key, verdict in pool.run(tasks)}
    return [by_key[key] for key, *_ in tasks]


def start(pool: Pool) -> None:
    """Have all workers up: two seconds that a step pays once."""
    list(pool.run([(i, rf"\boxed{{x+{i}}}", "x", "math", None) for i in range(20)]))


def forget() -> None:
    """Empty what this process remembers of answers it has seen."""
    compare.candidate.cache_clear()
    quantities.read_number.cache_clear()


def programs(rows: list[dict[str, Any]], workers: int) -> None:
    """Programs a second, short ones and labelled ones."""
    with Pool(workers) as pool:
        print(f"\nprograms, in {pool.sandbox()}")
        start(pool)
        for kind, (tests, program) in SHORT.items():
            options = VerifyOptions(tests=json.dumps(tests))
            tasks = [(i, f"```python\n{program}\n```", None, "code", options) for i in range(300)]
            seconds, results = timed(lambda tasks=tasks: judged(pool, tasks))
            assert all(results)
            print(f"  short, {kind:23} {len(tasks) / seconds:9,.0f}/s")
        tasks = [
            (i, row["answer"], None, "code", VerifyOptions(tests=json.dumps(row["tests"])))
            for i, row in enumerate(rows)
        ]
        seconds, results = timed(lambda: judged(pool, tasks))
        wrong = [
            row["id"]
            for row, is_right in zip(rows, results, strict=True)
            if is_right != row["correct"]
        ]
        rate = f"{len(rows) / seconds:9,.0f}/s"
        print(f"  labelled                       {rate}  {len(wrong)} against labels {wrong[:5]}")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that something takes, and what comes of it."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()
