r"""Column additions: a task whose traces can be checked digit by digit, for the tiny experiment.

    482+937+158
    0+2=02+7=09+8=17     units: the carry, then each digit with the running sum in two digits
    1+8=09+3=12+5=17
    1+4=05+9=14+1=15
    1                    the last carry
    \boxed{1577}

Every line of a question has the same width, so that a model of a million parameters can learn from
a few hundred traces where each digit stands.
"""

import random
from typing import Any

from stages.settings import Addition


def addition_trace(numbers: list[int]) -> str:
    """The teacher's trace: columns from the right, one line each, the last carry on its own.

    `numbers` have the same number of digits.
    """
    lines, total = [], 0
    for digits in zip(*(reversed(str(number)) for number in numbers), strict=True):
        total //= 10
        line = str(total)
        for digit in map(int, digits):
            total += digit
            line += f"+{digit}={total:02d}"
        lines.append(line)
    return "\n".join([*lines, str(total // 10)] if total >= 10 else lines)


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
