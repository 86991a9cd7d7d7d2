r"""How questions, hints, traces and solutions become text and tokens: the one place for prompts.

A row of text is always ``prompt + z + y + end``: the prompt, the trace up to and with its
end-of-thought marker, the solution up to and with its end marker, and the end of the turn. Each
part is tokenized by itself, so that the same trace has the same tokens wherever it stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BEGIN_THOUGHT = "<|begin_of_thought|>"
END_THOUGHT = "<|end_of_thought|>"
BEGIN_SOLUTION = "<|begin_of_solution|>"
END_SOLUTION = "<|end_of_solution|>"
BEGIN_TURN = "<|im_start|>"
END_TURN = "<|im_end|>"
BEGIN_HINT = "<hint>"
END_HINT = "</hint>"
MARKERS = (
    BEGIN_THOUGHT,
    END_THOUGHT,
    BEGIN_SOLUTION,
    END_SOLUTION,
    BEGIN_TURN,
    END_TURN,
    BEGIN_HINT,
    END_HINT,
)

# Sky-T1's system prompt, with which Bespoke-Stratos-17k was written; models trained on either
# expect it to the letter, its spelling included.
SYSTEM = (
    "Your role as an assistant involves thoroughly exploring questions through a systematic long "
    "thinking process before providing the final precise and accurate solutions. This requires "
    "engaging in a comprehensive cycle of analysis, summarizing, exploration, reassessment, "
    "reflection, backtracing, and iteration to develop well-considered thinking process. Please "
    "structure your response into two main sections: Thought and Solution. In the Thought section, "
    "detail your reasoning process using the specified format: <|begin_of_thought|> {thought with "
    "steps separated with '\\n\\n'} <|end_of_thought|> Each step should include detailed "
    "considerations such as analisying questions, summarizing relevant findings, brainstorming new "
    "ideas, verifying the accuracy of the current steps, refining any errors, and revisiting "
    "previous steps. In the Solution section, based on various attempts, explorations, and "
    "reflections from the Thought section, systematically present the final solution that you deem "
    "correct. The solution should remain a logical, accurate, concise expression style and detail "
    "necessary step needed to reach the conclusion, formatted as follows: <|begin_of_solution|> "
    "{final formatted, precise, and clear solution} <|end_of_solution|> Now, try to solve the "
    "following question through the above guidelines:"
)

# The authors wrap the hint in these tags after the question; the wording around it is not known,
# so that of template B is ours.
HINT = "{question}\n\n" + BEGIN_HINT + "{hint}" + END_HINT
HINT_B = (
    HINT + "\n\nThe hint holds the final result. Reason your way to it step by step from the "
    "question alone, as if the hint had not been given, and do not mention it."
)


@dataclass(frozen=True)
class Template:
    """Text around a question, a hint (A and B), a trace and a solution."""

    prompt: str
    hint_a: str
    hint_b: str
    gap: str

    def question_prompt(self, question: str) -> str:
        """Prompt of the reasoning model π_θ; it ends where the thought begins."""
        return self.prompt.replace("{user}", question)

    def hint_prompt(self, question: str, hint: str, variant: str) -> str:
        """Prompt of the posterior q_φ, by hint template ``"A"`` or ``"B"``."""
        user = {"A": self.hint_a, "B": self.hint_b}[variant]
        head, _, tail = user.partition("{question}")
        user = head.replace("{hint}", hint) + question + tail.replace("{hint}", hint)
        return self.prompt.replace("{user}", user)

    def trace(self, trace: str) -> str:
        """z: a teacher's trace with its end-of-thought marker."""
        return f"{trace}{self.gap}{END_THOUGHT}"

    def solution(self, solution: str, after: str = "") -> str:
        """y: a solution with its markers.

        `after` is what a sampled trace wrote past its end-of-thought marker (its last token may
        hold line breaks too); that much of the solution's beginning is left out.
        """
        y = f"{self.gap}{BEGIN_SOLUTION}{self.gap}{solution}{self.gap}{END_SOLUTION}"
        return y.removeprefix(after)


TEMPLATES = {
    "reasoning": Template(
        prompt=(
            f"{BEGIN_TURN}system\n{SYSTEM}{END_TURN}\n{BEGIN_TURN}user\n{{user}}{END_TURN}\n"
            f"{BEGIN_TURN}assistant\n{BEGIN_THOUGHT}\n\n"
        ),
        hint_a=HINT,
        hint_b=HINT_B,
        gap="\n\n",
    ),
    "plain": Template(
        prompt=BEGIN_TURN + "{user}" + BEGIN_THOUGHT,
        hint_a="{question}" + BEGIN_HINT + "{hint}" + END_HINT,
        hint_b=BEGIN_HINT + "{hint}" + END_HINT + "{question}",
        gap="",
    ),
}


def reference_solution(question: Mapping[str, Any]) -> str:
    """The text of y': a question's solution, or its bare answer in the form that is verified."""
    if question["solution"] is not None:
        return question["solution"]
    if question["answer_kind"] in ("math", "choice"):
        return rf"\boxed{{{question['answer']}}}"
    return question["answer"]


def hint_of(question: Mapping[str, Any], hint: str) -> str:
    """The hint y' that the posterior sees: the answer or the solution, whichever there is."""
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


def after_thought(trace: str) -> str:
    """What a sampled trace wrote past its end-of-thought marker: line breaks, or nothing."""
    return trace.rpartition(END_THOUGHT)[2] if END_THOUGHT in trace else ""


def encode(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a part of a row; the tokenizer adds none of its own."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]
