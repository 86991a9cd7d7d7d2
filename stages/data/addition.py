r"""Column additions: a task whose traces can be checked digit by digit, for the tiny experiment.

      482+  937+15806     numbers right-aligned, as in a column
    0+2+7+6=15            units: the carry, each number's digit, and their sum
    1+8+3+0=12
    1+4+9+8=22
    2+0+0+5=07            a number that has no such digit adds 0
    0+0+0+1=01            (a last carry would get another line)
    =17225
    \boxed{17225}

Lines of a question have the same width, and digits of a column the same place, so that a model of a
million parameters can learn the position of each digit from a few hundred traces. Adding a column
at once takes it longer to learn: that is what a hint of the answer helps with, digit by digit.
"""

import random
from typing import Any

from stages.experiments.sources import Addition


def addition_trace(numbers: list[int]) -> str:
    """The teacher's trace: columns from the right, one line each, last carry, and the sum."""
    lines, total = [], 0
    for column in range(max(len(str(number)) for number in numbers)):
        total //= 10
        summands = [total, *(number // 10**column % 10 for number in numbers)]
        total = sum(summands)
        lines.append(f"{'+'.join(map(str, summands))}={total:02d}")
    if total >= 10:
        lines.append(str(total // 10))
    return "\n".join([*lines, f"={sum(numbers)}"])


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
        numbers = [_number(generator, settings) for _ in range(n_numbers)]
        width = settings.digits[1]
        seen.setdefault("+".join(f"{number:{width}d}" for number in numbers), numbers)
    rows = [
        _row(index, question, numbers, traced=index < settings.traced)
        for index, (question, numbers) in enumerate(seen.items())
    ]
    n_training = settings.traced + settings.answer_only
    return rows[:n_training], rows[n_training:]


def _number(generator: random.Random, settings: Addition) -> int:
    digits = generator.randint(*settings.digits)
    return generator.randrange(10 ** (digits - 1), 10**digits)


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
