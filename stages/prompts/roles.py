"""Which prompt each role sees, as text and as token ids."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from stages.experiments.settings import Experiment
from stages.experiments.sources import Prompts
from stages.prompts.chat import chat_template, stand_in
from stages.prompts.responses import hint_of, reference_solution
from stages.prompts.templates import TEMPLATES, Parts, Template
from stages.prompts.tokens import adds_begin, encode_parts

Role = Literal["prior", "posterior", "evaluation"]
# Any wording will do, as long as it stays: a fingerprint is compared with earlier ones.
PLACEHOLDER: dict[str, str] = {
    "question": "QUESTION",
    "answer": "ANSWER",
    "solution": "SOLUTION",
    "answer_kind": "math",
}


class Piece(NamedTuple):
    """A piece of a row: its text, and its token ids."""

    text: str
    ids: list[int]


class Prompter:
    """Makes the pieces of rows of one experiment, with one tokenizer: all steps use it.

    Attributes
    ----------
    template : Template
        Wording and markers.
    """

    def __init__(self, settings: Experiment, tokenizer: Any) -> None:
        self.template = template_of(settings.prompts, tokenizer)
        self._settings = settings
        self._tokenizer = tokenizer

    def prompt(self, role: Role, question: Mapping[str, Any]) -> Piece:
        """The prompt of a question for a role."""
        return self._piece(prompt_parts(self.template, role, question, self._settings))

    def trace(self, trace: str) -> Piece:
        """z of a teacher's trace."""
        return self._piece(self.template.trace(trace), continues=True)

    def solution(self, question: Mapping[str, Any], after_trace: str = "") -> Piece:
        """y of a question's reference solution.

        `after_trace` is the text of the sampled trace that it follows, if it follows one.
        """
        after = self.template.after_thought(after_trace)
        return self._piece(
            self.template.answer(reference_solution(question), after), continues=True
        )

    def end_turn(self) -> Piece:
        """What ends the assistant's turn."""
        return self._piece((self.template.end_turn,), continues=True)

    def _piece(self, parts: Parts, continues: bool = False) -> Piece:
        return Piece("".join(parts), encode_parts(self._tokenizer, parts, continues))


def template_of(prompts: Prompts, tokenizer: Any) -> Template:
    """The template that the settings name, as it is for a tokenizer.

    A chat template writes the begin-of-sequence token itself; before the others it is put where
    the tokenizer puts it.
    """
    if prompts.template == "chat":
        return chat_template(tokenizer, prompts)
    template = TEMPLATES[prompts.template]
    if adds_begin(tokenizer):
        template = dataclasses.replace(template, head=tokenizer.bos_token + template.head)
    return template


def prompt_parts(
    template: Template, role: Role, question: Mapping[str, Any], settings: Experiment
) -> Parts:
    """The prompt of a question for a role, the one rule of who sees what.

    prior : the question.
    posterior : the question and the hint, by `posterior.hint` and `posterior.template`; with
        `posterior.hint: none` what the prior sees.
    evaluation : what the prior sees. With `evaluation.protocol: authors` the thought begins as in
        the authors' evaluation, with a marker whose pipes are missing, which no model was trained
        on.
    """
    if role == "posterior" and settings.posterior.hint != "none":
        hint = hint_of(question, settings.posterior.hint)
        return template.hint_prompt(question["question"], hint, settings.posterior.template)
    head, user, tail = template.question_prompt(question["question"])
    if role == "evaluation" and settings.evaluation.protocol == "authors" and template.thought:
        marker = template.thought[0]
        before, _, after = tail.rpartition(marker)
        tail = before + marker.replace("|", "") + after
    return (head, user, tail)


def fingerprint(settings: Experiment, role: Role | Literal["row"]) -> str:
    """First 16 hex digits of the SHA-256 of the text around question, hint, trace and solution.

    Changes with every change of wording that the role sees, markers and stop texts included, and
    with none that it does not see. `posterior` covers its training rows too; `row` is a row of the
    initial or final model. A chat template of the model's own belongs to the model.
    """
    chat = settings.prompts.template == "chat"
    template = stand_in(settings.prompts) if chat else TEMPLATES[settings.prompts.template]
    parts = prompt_parts(template, "prior" if role == "row" else role, PLACEHOLDER, settings)
    texts = ["".join(parts), *(template.thought or ()), *(template.solution or ())]
    if role in ("row", "posterior") and template.thought:
        texts += [*template.trace("TRACE"), reference_solution({**PLACEHOLDER, "solution": None})]
    if role == "row":
        texts += [*template.answer(PLACEHOLDER["solution"]), template.end_turn]
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:16]
