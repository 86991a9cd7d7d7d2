"""The model's own chat template, cut at the question and with the thought begun."""

from typing import Any

import pytest

from stages import prompts
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.prompts.chat import chat_template

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# as in Qwen3: an assistant's turn without a thought is written with an empty one
EMPTY_THOUGHT = CHATML.replace(
    "{{ m.content }}",
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}",
)
# as in DeepSeek-R1's distillations: the template begins the thought itself
BEGINS_THOUGHT = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
LLAMA = (
    "{{ bos_token }}{{ strftime_now('%d %b %Y') }}{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
HARMONY = CHATML.replace("{{ m.role }}\n", "{{ m.role }}<|channel|>final<|message|>")
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"


@pytest.fixture
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def settings(**changes: Any) -> StepSettings:
    return StepSettings.model_validate({"prompts": {"template": "chat", **changes}})


def prompt(tokenizer: Any, template: str, **changes: Any) -> tuple[str, str]:
    tokenizer.chat_template = template
    made = chat_template(tokenizer, settings(**changes).prompts)
    return "".join(made.question_prompt("Q?")), made.end_turn


BEGUN = "<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("template", [CHATML, EMPTY_THOUGHT, BEGINS_THOUGHT])
def test_the_thought_is_begun_once(tokenizer: Any, template: str) -> None:
    assert prompt(tokenizer, template) == (BEGUN + "<think>\n", "<|im_end|>")


def test_the_system_prompt_and_a_model_without_thought(tokenizer: Any) -> None:
    text, _ = prompt(tokenizer, CHATML, system="Be brief.", thought=None)
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n" + BEGUN


def test_the_hint_is_in_the_users_turn(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    made = chat_template(tokenizer, settings().prompts)
    text = "".join(made.hint_prompt("Q?", "42", "A"))
    assert text == BEGUN.replace("Q?", "Q?\n\n<hint>42</hint>") + "<think>\n"


def test_what_a_row_looks_like(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    made = chat_template(tokenizer, settings().prompts)
    row = "".join((*made.trace("Hm."), *made.answer("4"), made.end_turn))
    assert row == "Hm.\n</think>\n\n4<|im_end|>"
    assert made.end_solution == "<|im_end|>"
    assert made.is_closed("Hm.\n</think>\n\n") and not made.is_closed("Hm.\n</think><")
    marked = chat_template(tokenizer, settings(solution=("<a>", "</a>")).prompts)
    assert "".join(marked.answer("4")) == "\n<a>\n4\n</a>"


def test_the_date_of_today_is_not_in_a_prompt(tokenizer: Any) -> None:
    text, end = prompt(tokenizer, LLAMA, thought=None)
    assert text.startswith("<s>01 Jan 2025<|start_header_id|>user")
    assert end == "<|eot_id|>"


@pytest.mark.parametrize(
    ("template", "changes", "message"),
    [
        (None, {}, "has no chat template; set prompts.template to reasoning or plain"),
        (HARMONY, {}, "does not continue the prompt"),
        (CHATML.replace("m.content", "m.content | upper"), {}, "does not write each message once"),
        (NO_SYSTEM + CHATML, {"system": "Hi."}, "refuses the messages: no system; remove prompts"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_by_name(
    tokenizer: Any, template: str | None, changes: dict, message: str
) -> None:
    tokenizer.name_or_path = "owner/model"
    with pytest.raises(UserError, match=rf"owner/model.*{message}"):
        prompt(tokenizer, template, **changes)


def test_without_a_thought_nothing_can_be_trained(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    made = chat_template(tokenizer, settings(thought=None).prompts)
    with pytest.raises(UserError, match=r"prompts\.thought is null"):
        made.trace("Hm.")


def test_fingerprints_change_with_the_settings_of_the_chat_template() -> None:
    def fingerprints(**changes: Any) -> set[str]:
        return {prompts.fingerprint(settings(**changes), r) for r in ("prior", "posterior", "row")}

    variants: list[dict] = [
        {},
        {"system": "Hi."},
        {"thought": ("<t>", "</t>")},
        {"solution": ("<a>", "</a>")},
    ]
    assert len(set().union(*(fingerprints(**changes) for changes in variants))) == 12


@pytest.mark.parametrize(
    "section", [{"system": "Hi."}, {"thought": None}, {"template": "chat", "thought": ("a", "a")}]
)
def test_markers_are_settings_of_the_chat_template_alone(section: dict) -> None:
    with pytest.raises(ValueError, match=r"needs template: chat|must be different"):
        StepSettings.model_validate({"prompts": section})
