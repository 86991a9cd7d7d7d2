r"""The wording around a question, a hint, a trace and a solution."""

import re
from dataclasses import dataclass

from stages.common.errors import UserError

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

Parts = tuple[str, ...]
"""A text in pieces: the template's, the user's, the template's, ... by turns."""


@dataclass(frozen=True)
class Template:
    """Text around a question, a hint (A and B), a trace and a solution.

    Attributes
    ----------
    head, tail : str
        Text before and after the user's turn; `tail` ends where the thought begins.
    hint_a, hint_b : str
        The user's turn with a hint; ``{question}`` and ``{hint}`` occur once each.
    gap : str
        Between a text and the markers around it.
    end_turn : str
        What ends the assistant's turn.
    thought, solution : pair of str, optional
        Markers of the thought and of the solution; None where there are none.
    """

    head: str
    tail: str
    hint_a: str
    hint_b: str
    gap: str
    end_turn: str = END_TURN
    thought: tuple[str, str] | None = (BEGIN_THOUGHT, END_THOUGHT)
    solution: tuple[str, str] | None = (BEGIN_SOLUTION, END_SOLUTION)

    def question_prompt(self, question: str) -> Parts:
        """Prompt of the reasoning model π_θ; it ends where the thought begins."""
        return (self.head, question, self.tail)

    def hint_prompt(self, question: str, hint: str, variant: str) -> Parts:
        """Prompt of the posterior q_φ, by hint template ``"A"`` or ``"B"``."""
        texts = {"{question}": question, "{hint}": hint}
        wording = {"A": self.hint_a, "B": self.hint_b}[variant]
        parts = [texts.get(part, part) for part in re.split(r"(\{question\}|\{hint\})", wording)]
        return (self.head + parts[0], *parts[1:-1], parts[-1] + self.tail)

    @property
    def end_thought(self) -> str:
        """The marker that ends a thought.

        Raises
        ------
        UserError
            The prompts have no thought.
        """
        if self.thought is None:
            raise UserError(
                "prompts.thought is null: a model without a thought can be evaluated, but no trace "
                "can be sampled or learned; set prompts.thought, for instance [<think>, </think>]"
            )
        return self.thought[1]

    @property
    def end_solution(self) -> str:
        """Text at which sampling of a solution stops."""
        return self.solution[1] if self.solution else self.end_turn

    @property
    def opening(self) -> str:
        """Text between the end of the thought and the solution."""
        return self.gap + (self.solution[0] if self.solution else "") + self.gap

    def trace(self, trace: str) -> Parts:
        """z: a teacher's trace with its end-of-thought marker."""
        return ("", trace, self.gap + self.end_thought)

    def answer(self, solution: str, after: str = "") -> Parts:
        """y: a solution with its markers.

        `after` is what a sampled trace wrote past its end-of-thought marker (its last token may
        hold line breaks too); that much of the opening is left out.
        """
        closing = self.gap + self.solution[1] if self.solution else ""
        return (self.opening.removeprefix(after), solution, closing)

    def is_closed(self, trace: str) -> bool:
        """Whether a sampled trace ends its thought where the solution can follow.

        The token that completes the marker may hold more text. White space, and the beginning of
        the solution's own opening, do no harm; after anything else (``</think><``) every solution
        would follow a stray character, so that such a trace counts as open.
        """
        if self.end_thought not in trace:
            return False
        after = self.after_thought(trace)
        return not after.strip() or self.opening.startswith(after)

    def after_thought(self, trace: str) -> str:
        """What a sampled trace wrote past its end-of-thought marker; empty for an open one."""
        _, closed, after = trace.rpartition(self.end_thought)
        return after if closed else ""


TEMPLATES = {
    "reasoning": Template(
        head=f"{BEGIN_TURN}system\n{SYSTEM}{END_TURN}\n{BEGIN_TURN}user\n",
        tail=f"{END_TURN}\n{BEGIN_TURN}assistant\n{BEGIN_THOUGHT}\n\n",
        hint_a=HINT,
        hint_b=HINT_B,
        gap="\n\n",
    ),
    "plain": Template(
        head=BEGIN_TURN,
        tail=BEGIN_THOUGHT,
        hint_a="{question}" + BEGIN_HINT + "{hint}" + END_HINT,
        hint_b=BEGIN_HINT + "{hint}" + END_HINT + "{question}",
        gap="",
    ),
}
