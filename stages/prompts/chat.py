"""A template made from the tokenizer's own chat template."""

from datetime import datetime
from typing import Any

from stages.common.errors import UserError
from stages.experiments.sources import Prompts
from stages.prompts.templates import HINT, HINT_B, Template

USER, ASSISTANT, SYSTEM_TEXT = "QUESTION-7f3a", "RESPONSE-7f3a", "SYSTEM-7f3a"
# Some templates write today's date; prompts must be the same tomorrow.
DATE = datetime(2025, 1, 1)


def chat_template(tokenizer: Any, prompts: Prompts) -> Template:
    """The tokenizer's chat template, cut at the question, with the thought begun.

    Raises
    ------
    UserError
        There is no chat template, or the assistant's turn cannot be begun with a thought.
    """
    name = getattr(tokenizer, "name_or_path", "") or "the tokenizer"
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"{name} has no chat template; set prompts.template to reasoning or plain, or give a "
            "model that has one"
        )
    system = [] if prompts.system is None else [{"role": "system", "content": SYSTEM_TEXT}]
    asked = [*system, {"role": "user", "content": USER}]
    begun = _render(tokenizer, asked, name, begin=True)
    whole = _render(tokenizer, [*asked, {"role": "assistant", "content": ASSISTANT}], name)
    places = [begun.count(USER), whole.count(ASSISTANT), begun.count(SYSTEM_TEXT) - len(system)]
    if places != [1, 1, 0]:
        raise _refused(name, "it does not write each message once, as it is")
    head, _, tail = begun.partition(USER)
    turn, _, end = whole.partition(ASSISTANT)
    begin = tail.rstrip()
    if prompts.thought is not None:
        begin = begin.removesuffix(prompts.thought[0])
    prefix = head + USER + begin
    between = turn[len(prefix) :]
    for marker in prompts.thought or ():
        between = between.replace(marker, "")
    if not turn.startswith(prefix) or between.strip():
        raise _refused(name, "the assistant's turn does not continue the prompt for it")
    if prompts.thought is not None:
        opened = tail.rstrip().endswith(prompts.thought[0])
        tail = tail if opened else f"{tail}{prompts.thought[0]}\n"
    if prompts.system is not None:
        head = head.replace(SYSTEM_TEXT, prompts.system)
    return _template(prompts, head, tail, end.strip() or tokenizer.eos_token or "")


def stand_in(prompts: Prompts) -> Template:
    """Our wording alone, for fingerprints: the model's part is a fixed text."""
    begin = "" if prompts.thought is None else prompts.thought[0]
    return _template(prompts, f"[system]{prompts.system}[user]", f"[assistant]{begin}\n", "[end]")


def _template(prompts: Prompts, head: str, tail: str, end_turn: str) -> Template:
    return Template(
        head=head,
        tail=tail,
        hint_a=HINT,
        hint_b=HINT_B,
        gap="\n",
        end_turn=end_turn,
        thought=prompts.thought,
        solution=prompts.solution,
    )


def _render(tokenizer: Any, messages: list[dict[str, str]], name: str, begin: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=begin,
            date_string=DATE.strftime("%d %b %Y"),
            strftime_now=DATE.strftime,
        )
    except TemplateError as error:
        raise UserError(
            f"the chat template of {name} refuses the messages: {error}"
            + ("; remove prompts.system" if messages[0]["role"] == "system" else "")
        ) from None
    return text


def _refused(name: str, reason: str) -> UserError:
    return UserError(
        f"the chat template of {name} cannot be used: {reason}, so that a thought cannot be begun "
        "in its place; set prompts.template to reasoning or plain"
    )
