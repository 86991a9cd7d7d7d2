r"""Column additions: a task whose traces can be checked digit by digit, for the tiny experiment.

482+937+158
2+7=9 9+8=17 w7c1        units: running sums, then the written digit and the carry
1+8=9 9+3=12 12+5=17 w7c1
1+4=5 5+9=14 14+1=15 w5c1
w1
\boxed{1577}
"""

import random
from typing import Any

from stages.settings import Addition


def addition_trace(numbers: list[int]) -> str:
    """The teacher's trace: columns from the right, one line each, the last carry on its own."""
    lines, carry = [], 0
    for column in range(max(len(str(n)) for n in numbers)):
        digits = [int(str(n)[-1 - column]) for n in numbers if len(str(n)) > column]
        terms = digits if column == 0 else [carry, *digits]
        total, steps = terms[0], []
        for term in terms[1:]:
            steps.append(f"{total}+{term}={total + term}")
            total += term
        carry = total // 10
        lines.append(" ".join([*steps, f"w{total % 10}c{carry}"]))
    if carry:
        lines.append(f"w{carry}")
    return "\n".join(lines)


def additions(settings: Addition, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Questions for training and for evaluation, as rows of the `questions` table.

    No two questions are alike. The first `traced` training questions carry a trace, the next
    `answer_only` only an answer; the held-out ones come last.
    """
    generator = random.Random(seed)
    total = settings.traced + settings.answer_only + settings.held_out
    seen: dict[str, list[int]] = {}
    while len(seen) < total:
        n_numbers = generator.randint(*settings.numbers)
        digits = generator.randint(*settings.digits)
        numbers = [generator.randrange(10 ** (digits - 1), 10**digits) for _ in range(n_numbers)]
        seen.setdefault("+".join(map(str, numbers)), numbers)
    rows = [
        _row(index, question, numbers, traced=index < settings.traced)
        for index, (question, numbers) in enumerate(seen.items())
    ]
    n_training = settings.traced + settings.answer_only
    return rows[:n_training], rows[n_training:]


def _row(index: int, question: str, numbers: list[int], traced: bool) -> dict[str, Any]:
    answer = str(sum(numbers))
    return {
        "question_id": f"addition-{index:05d}",
        "question": question,
        "answer": answer,
        "answer_kind": "math",
        "solution": rf"\boxed{{{answer}}}" if traced else None,
        "trace": addition_trace(numbers) if traced else None,
        "source": "addition",
    }
