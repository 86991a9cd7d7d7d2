"""Text to token ids."""

from typing import Any

from stages.prompts.templates import Parts


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a piece of a row; the tokenizer adds none itself."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_parts(tokenizer: Any, parts: Parts, continues: bool = False) -> list[int]:
    """Token ids of a text in parts, in one piece; `continues` says that others come before it.

    Where one of the user's parts spells a special token (``<|im_end|>`` in a question), the parts
    are encoded one by one, and in the user's the spelling remains ordinary text.
    """
    theirs = "\n".join(parts[1::2])
    if not any(token in theirs for token in special_tokens(tokenizer)):
        text = "".join(parts)
        return _continued(tokenizer, text) if continues else encode(tokenizer, text)
    ids: list[int] = []
    for index, part in enumerate(parts):
        spelled = index % 2 == 1
        ids += tokenizer(part, add_special_tokens=False, split_special_tokens=spelled)["input_ids"]
    return ids


def _continued(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text inside a row, without the space that sentencepiece puts before a text.

    It puts none after a line break, whose own tokens are cut off again.
    """
    line_break = encode(tokenizer, "\n")
    n = len(line_break)
    if encode(tokenizer, "a") != encode(tokenizer, "\na")[n:]:
        ids = encode(tokenizer, "\n" + text)
        if ids[:n] == line_break:
            return ids[n:]
    return encode(tokenizer, text)


def adds_begin(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a begin-of-sequence token before a text."""
    begin = tokenizer.bos_token_id
    return begin is not None and tokenizer("a")["input_ids"][:1] == [begin]


def special_tokens(tokenizer: Any) -> set[str]:
    """Texts that the tokenizer turns into special tokens."""
    return {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
