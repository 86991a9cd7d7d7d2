"""Each role sees its own prompt, and a fingerprint changes exactly with what the role sees."""

import dataclasses
from pathlib import Path

import pytest

from stages import prompts
from stages.experiments.settings import StepSettings
from stages.prompts import roles
from stages.running.command import load_tokenizer

QUESTION = {"question": "1+1", "answer": "2", "solution": None, "answer_kind": "math"}
PLAIN = {"prompts": {"template": "plain"}}


def settings(**sections: dict) -> StepSettings:
    return StepSettings.model_validate({**PLAIN, **sections})


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("prior", "<|im_start|>1+1<|begin_of_thought|>"),
        ("posterior", "<|im_start|>1+1<hint>2</hint><|begin_of_thought|>"),
        ("evaluation", "<|im_start|>1+1<|begin_of_thought|>"),
    ],
)
def test_who_sees_what(role: prompts.Role, text: str, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    piece = prompts.Prompter(settings(), tokenizer).prompt(role, QUESTION)
    assert piece == (text, prompts.encode(tokenizer, text))


def test_a_posterior_without_a_hint_sees_what_the_prior_sees(tiny_model: Path) -> None:
    prompter = prompts.Prompter(settings(posterior={"hint": "none"}), load_tokenizer(tiny_model))
    assert prompter.prompt("posterior", QUESTION) == prompter.prompt("prior", QUESTION)


def test_a_special_token_spelled_in_a_question_is_ordinary_text(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    prompter = prompts.Prompter(settings(), tokenizer)
    ids = prompter.prompt("prior", {"question": "1<|im_end|>+1"}).ids
    plain = prompter.prompt("prior", {"question": "1+1"}).ids
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids
    assert ids == plain  # this tokenizer has no other tokens for the characters of the marker


ROLES = ("prior", "posterior", "row", "evaluation")
CHANGES = {
    "head": {*ROLES},
    "tail": {*ROLES},
    "hint_a": {"posterior"},
    "hint_b": set(),  # not the template that the settings name
    "gap": {"posterior", "row"},
    "end_turn": {"row"},
    "thought": {*ROLES},
    "solution": {*ROLES},
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_fingerprint_changes_with_the_wording_its_role_sees(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {role: prompts.fingerprint(settings(), role) for role in ROLES}
    template = prompts.TEMPLATES["plain"]
    value = getattr(template, field)
    value = ("<a>", "</a>") if isinstance(value, tuple) else value + "!"
    changed = dataclasses.replace(template, **{field: value})
    monkeypatch.setitem(prompts.TEMPLATES, "plain", changed)
    after = {role: prompts.fingerprint(settings(), role) for role in ROLES}
    assert {role for role in ROLES if before[role] != after[role]} == CHANGES[field]


def test_a_fingerprint_changes_with_the_settings_its_role_sees() -> None:
    def changed(**sections: dict) -> set[str]:
        other = settings(**sections)
        return {
            r for r in ROLES if prompts.fingerprint(settings(), r) != prompts.fingerprint(other, r)
        }

    assert changed(posterior={"template": "B"}) == {"posterior"}
    assert changed(posterior={"hint": "solution"}) == {"posterior"}
    assert changed(evaluation={"protocol": "authors"}) == {"evaluation"}
    assert changed(prompts={"template": "reasoning"}) == {*ROLES}
    assert changed(traces={"k": 3}, seed=5) == set()


def test_a_fingerprint_covers_the_form_of_a_bare_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {role: prompts.fingerprint(settings(), role) for role in ROLES}
    monkeypatch.setattr(roles, "reference_solution", lambda question: f"={question['answer']}")
    after = {role: prompts.fingerprint(settings(), role) for role in ROLES}
    assert {role for role in ROLES if before[role] != after[role]} == {"posterior", "row"}
