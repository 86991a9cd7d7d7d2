"""LiveCodeBench release_v2, easy, medium and hard: 182, 206 and 123 programming tasks
(Jain et al. 2024, arXiv 2403.07974).

Private tests are base64 of zlib of a pickled JSON text. They are parsed, never unpickled: a pickle
can run code, so only the opcodes of a single string are accepted.
"""

import base64
import json
import pickletools
import zlib
from functools import partial
from typing import Any

from stages.benchmarks import Benchmark, Hub, Item, Row

WRITE_FUNCTION = (
    "Generate an executable Python function generated from the given prompt. Return the function "
    "body without invoking it at the final solution. "
)
WRITE_PROGRAM = (
    "Generate an executable Python function generated from the given prompt. The function should "
    "take stdin as input and print the output. Simply call the function after the definition. "
)
STARTER = "\n\nYou will use the following starter code:\n```python\n{}\n```"
MAX_BYTES = 1 << 29
TEXT_OPCODES = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
PLAIN_OPCODES = TEXT_OPCODES | {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}


def read(row: Row, number: int, difficulty: str) -> Item | None:
    """Fields: question_id, question_content, starter_code, difficulty, public_test_cases,
    private_test_cases, metadata."""
    if row["difficulty"] != difficulty:
        return None
    cases = json.loads(row["public_test_cases"]) + private_tests(row["private_test_cases"])
    name = json.loads(row["metadata"]).get("func_name")
    question = row["question_content"]
    prompt = WRITE_FUNCTION + question if name else WRITE_PROGRAM + question
    if row["starter_code"]:
        prompt += STARTER.format(row["starter_code"])
    return Item(
        item_id=row["question_id"],
        question=question,
        prompt=prompt,
        answer=None,
        answer_kind="code",
        tests=json.dumps(_tests(cases, name)),
    )


def _tests(cases: list[dict[str, str]], name: str | None) -> dict[str, Any]:
    """Tests in the verifier's format: texts for a program, JSON arguments for a function."""
    inputs = [case["input"] for case in cases]
    outputs = [case["output"] for case in cases]
    if not name:
        return {"kind": "stdin", "inputs": inputs, "outputs": outputs}
    return {
        "kind": "call",
        "entry_point": name,
        "inputs": [_arguments(text) for text in inputs],
        "outputs": [json.loads(text) for text in outputs],
    }


def _arguments(text: str) -> list[Any]:
    """Arguments of a call, one JSON value per line; only a newline ends a line."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def private_tests(encoded: str) -> list[dict[str, str]]:
    """Private test cases: plain JSON, or base64 of zlib of a pickled JSON text.

    Raises ValueError for anything else, without running any of it.
    """
    if encoded.lstrip().startswith("["):
        return json.loads(encoded)
    return json.loads(pickled_text(_inflate(base64.b64decode(encoded, validate=True))))


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"private tests: invalid zlib data: {error}") from None
    if not stream.eof:
        raise ValueError(f"private tests: truncated, or larger than {MAX_BYTES >> 20} MiB")
    return inflated


def pickled_text(data: bytes) -> str:
    """The string in a pickle of a single string, read from its opcodes.

    Raises ValueError if the pickle contains anything else.
    """
    texts = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in PLAIN_OPCODES:
            raise ValueError(f"private tests: not a pickled string: opcode {opcode.name}")
        if opcode.name in TEXT_OPCODES:
            texts.append(str(argument))
    if len(texts) != 1:
        raise ValueError(f"private tests: {len(texts)} strings, expected one")
    return texts[0]


BENCHMARKS = tuple(
    Benchmark(
        name=f"livecodebench_{difficulty}",
        title=f"LiveCodeBench {difficulty}",
        read=partial(read, difficulty=difficulty),
        samples=8,
        hub=Hub(
            "livecodebench/code_generation_lite",
            "0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
            ("test.jsonl", "test2.jsonl"),
        ),
        group="other",
        # Bespoke Labs, "Bespoke-Stratos", January 2025
        reference={"Bespoke-Stratos-32B": score},
    )
    for difficulty, score in (("easy", 96.7), ("medium", 75.2), ("hard", 26.2))
)
