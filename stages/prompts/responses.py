r"""A response split into thought and solution, and the texts y' that a question offers."""

from collections.abc import Mapping
from typing import Any

from stages.prompts.templates import BEGIN_SOLUTION, BEGIN_THOUGHT, END_SOLUTION, END_THOUGHT


def reference_solution(question: Mapping[str, Any]) -> str:
    """The text of y': a question's solution, or its bare answer in the form that is verified."""
    if question["solution"] is not None:
        return question["solution"]
    if question["answer_kind"] in ("math", "choice"):
        return rf"\boxed{{{question['answer']}}}"
    return question["answer"]


def hint_of(question: Mapping[str, Any], hint: str) -> str:
    """The hint y' that the posterior sees: the answer, or the solution where that is missing."""
    if hint == "answer" and question["answer"] is not None:
        return question["answer"]
    return reference_solution(question)


def split_response(response: str) -> tuple[str, str | None]:
    """Split a response at its last end-of-thought marker into thought and solution, unmarked.

    The solution is None when the thought was never closed.
    """
    thought, closed, rest = response.rpartition(END_THOUGHT)
    if not closed:
        return response.removeprefix(BEGIN_THOUGHT).strip(), None
    solution = rest.partition(BEGIN_SOLUTION)[2] or rest
    solution = solution.partition(END_SOLUTION)[0]
    return thought.removeprefix(BEGIN_THOUGHT).strip(), solution.strip()
