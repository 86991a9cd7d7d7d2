"""How questions, hints, traces and solutions become text and tokens: the one place for prompts.

templates.py   the wording around a question, a hint, a trace and a solution
roles.py       which prompt each role sees, as text and as token ids, and its fingerprint
chat.py        the template made from a tokenizer's own chat template
tokens.py      text to token ids
responses.py   a model's response split into thought and solution; the reference solution

A row of text is always ``prompt + z + y + end``: the prompt, the trace up to and with its
end-of-thought marker, the solution up to and with its end marker, and the end of the turn. Each
part is tokenized by itself, so that the same trace has the same tokens wherever it occurs.
"""

from stages.prompts.responses import hint_of, reference_solution, split_response, text_to_verify
from stages.prompts.roles import Piece, Prompter, Role, fingerprint, prompt_parts
from stages.prompts.templates import (
    BEGIN_SOLUTION,
    BEGIN_THOUGHT,
    END_SOLUTION,
    END_THOUGHT,
    END_TURN,
    MARKERS,
    TEMPLATES,
    Template,
)
from stages.prompts.tokens import encode

__all__ = [
    "BEGIN_SOLUTION",
    "BEGIN_THOUGHT",
    "END_SOLUTION",
    "END_THOUGHT",
    "END_TURN",
    "MARKERS",
    "TEMPLATES",
    "Piece",
    "Prompter",
    "Role",
    "Template",
    "encode",
    "fingerprint",
    "hint_of",
    "prompt_parts",
    "reference_solution",
    "split_response",
    "text_to_verify",
]
