r"""A response split into thought and solution, and the texts y' that a question offers."""

import re
from collections.abc import Mapping
from typing import Any

from stages.experiments.sources import Prompts
from stages.prompts.templates import (
    BEGIN_SOLUTION,
    BEGIN_THOUGHT,
    END_SOLUTION,
    END_THOUGHT,
    TEMPLATES,
)

# Tokens with which models end a turn, as text.
_END = re.compile(r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</s>|<eos>|<end_of_turn>")
_MAX_ENDS = 8


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


def text_to_verify(response: str, prompts: Prompts, *, has_thought: bool) -> str:
    """The part of a sampled text that a verifier is given: no thought, markers or end token.

    Empty for a thought that was never closed, where `has_thought` says that the text begins with
    one; with prompts that ask for no thought, the text is read whole.
    """
    shape = prompts if prompts.template == "chat" else TEMPLATES[prompts.template]
    if shape.thought is not None:
        _, closed, after = response.rpartition(shape.thought[1])
        if has_thought and not closed:
            return ""
        response = after
    if shape.solution is not None:
        response = response.rpartition(shape.solution[0])[2].partition(shape.solution[1])[0]
    return _without_end(response)


def _without_end(text: str) -> str:
    text = text.rstrip()
    for _ in range(_MAX_ENDS):
        start = text.rfind("<")
        if start < 0 or not _END.fullmatch(text, start):
            break
        text = text[:start].rstrip()
    return text
