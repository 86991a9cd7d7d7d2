"""Text to token ids."""

from typing import Any

from stages.prompts.templates import Parts


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a piece of a row; the tokenizer adds none itself."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_parts(tokenizer: Any, parts: Parts) -> list[int]:
    """Token ids of a text in parts, in one piece.

    Where one of the user's parts spells a special token (``<|im_end|>`` in a question), the parts
    are encoded one by one, and in the user's the spelling remains ordinary text.
    """
    theirs = "\n".join(parts[1::2])
    if not any(token in theirs for token in special_tokens(tokenizer)):
        return encode(tokenizer, "".join(parts))
    ids: list[int] = []
    for index, part in enumerate(parts):
        spelled = index % 2 == 1
        ids += tokenizer(part, add_special_tokens=False, split_special_tokens=spelled)["input_ids"]
    return ids


def special_tokens(tokenizer: Any) -> set[str]:
    """Texts that the tokenizer turns into special tokens."""
    return {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
