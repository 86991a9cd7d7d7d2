r"""The tests of a code question, and the program in an answer to it.

Tests are JSON of one of these forms; the last is that of APPS and TACO, whose inputs and outputs
mean what they mean there:

- ``{"kind": "stdin", "inputs": [text, ...], "outputs": [text, ...]}``
- ``{"kind": "call", "entry_point": "f" or "Solution.f", "inputs": [[...], ...], "outputs": [...]}``
- ``{"kind": "assert", "code": "assert f(1) == 2"}``
- ``{"inputs": [...], "outputs": [...], "fn_name": "f"}``, without ``fn_name`` for ``stdin``
"""

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stages.verifiers.code.names import undefined

_PYTHON = {"python", "python3", "py", "py3"}
_DEFINED = re.compile(
    r"^(?:(?:async\s+def|def|class)\s+(\w+)|(\w+)\s*(?::[^=\n]*)?=(?!=))", re.MULTILINE
)
_FENCE = re.compile(
    r"(?P<indent>[ \t]*)(?:(?:[-*+]|[0-9]+[.)])[ \t]+)?(?P<marks>`{3,}|~{3,})(?P<language>[^`]*)"
)
_READS = re.compile(r"\binput\b|\bstdin\b|\bopen\(0|\bread\(0|\bfileinput\b")
# MBPP's marks around a program; a prompt may end with the first one.
_MARK = re.compile(r"\[(/?)(BEGIN|DONE|PYTHON)\]")
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Tests:
    """Tests of one question, checked.

    `inputs` and `outputs` have one entry a test: texts for `stdin`, argument lists and accepted
    results for `call`; `code` is for `assert`.
    """

    kind: str
    inputs: tuple[Any, ...] = ()
    outputs: tuple[Any, ...] = ()
    entry_point: str = ""
    code: str = ""


@dataclass(frozen=True)
class Accepted:
    """Results of a call any of which is right."""

    results: tuple[Any, ...]


@lru_cache(maxsize=64)
def read_tests(tests: str) -> Tests:
    """Read a question's tests.

    Raises
    ------
    ValueError
        What is wrong with them, in words.
    """
    try:
        given = json.loads(tests)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"tests are no JSON: {error}") from None
    return as_tests(given)


def as_tests(given: Any) -> Tests:
    """The same for tests that are read from JSON already."""
    if not isinstance(given, Mapping):
        raise ValueError("tests of a code question are a JSON object")
    kind = given.get("kind")
    if kind is None and {"inputs", "outputs"} <= set(given):
        return _input_output(given)
    if kind == "assert":
        if not isinstance(given.get("code"), str) or not given["code"].strip():
            raise ValueError("assert tests hold their code as a text")
        try:
            undefined(given["code"])
        except (SyntaxError, ValueError, RecursionError) as error:
            raise ValueError(f"code of assert tests is not valid Python: {error}") from None
        return Tests("assert", code=given["code"])
    if kind not in ("stdin", "call"):
        raise ValueError(f"kind of tests is stdin, call or assert, not {kind!r}")
    inputs, outputs = _paired(given)
    if kind == "stdin":
        return Tests("stdin", tuple(map(_as_text, inputs)), tuple(map(_as_text, outputs)))
    if not all(isinstance(arguments, list) for arguments in inputs):
        raise ValueError("inputs of call tests are lists of arguments")
    accepted = tuple(Accepted((output,)) for output in outputs)
    return Tests("call", tuple(inputs), accepted, _entry_point(given.get("entry_point")))


def _input_output(given: Mapping[str, Any]) -> Tests:
    """APPS' and TACO's form, and LiveCodeBench's, whose arguments are JSON by line."""
    inputs, outputs = _paired(given)
    if not given.get("fn_name"):
        return Tests("stdin", tuple(map(_as_text, inputs)), tuple(map(_as_text, outputs)))
    arguments, accepted = [], []
    for given_input, output in zip(inputs, outputs, strict=True):
        if isinstance(given_input, str):
            lines = given_input.split("\n")  # texts may hold other line breaks
            given_input = [_from_json(line) for line in lines if line.strip()]
            output = _from_json(output)
        if not isinstance(given_input, list):
            raise ValueError("inputs of a function are lists of arguments")
        arguments.append(given_input)
        # APPS wraps results in a list, sometimes.
        unwrapped = (output[0],) if isinstance(output, list) and len(output) == 1 else ()
        accepted.append(Accepted((output, *unwrapped)))
    return Tests("call", tuple(arguments), tuple(accepted), _entry_point(given["fn_name"]))


def _paired(given: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    inputs, outputs = given.get("inputs"), given.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise ValueError("tests hold lists of inputs and outputs")
    if len(inputs) != len(outputs) or not inputs:
        raise ValueError(f"tests hold {len(inputs)} inputs and {len(outputs)} outputs")
    return inputs, outputs


def _as_text(value: Any) -> str:
    """APPS has some inputs and outputs as lists of lines."""
    if isinstance(value, list):
        return "\n".join(map(_as_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


def _entry_point(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)?", name):
        raise ValueError(f"entry_point is a function or Class.method, not {name!r}")
    return name


def extract_program(section: str, tests: Tests) -> str | None:
    """The program of a solution section: its last Python block that has what the tests call.

    Blocks without a language count where none is marked as Python; a text without any block
    counts as a whole if it defines something. A block that was cut off is taken to its end.
    """
    blocks = _blocks(section) or _blocks(_MARK.sub(_as_fence, section))
    marked = [block for language, block in blocks if language in _PYTHON]
    found = marked or [block for language, block in blocks if not language]
    if not blocks and (_DEFINED.search(section) or tests.kind == "stdin"):
        found = [section]
    if not found:
        return None
    entries = _entries(tests)
    for block in reversed(found):
        if tests.kind == "stdin" and _READS.search(block):
            return block
        if entries & {name for names in _DEFINED.findall(block) for name in names}:
            return block
    return found[-1]


def _entries(tests: Tests) -> set[str]:
    if tests.kind != "assert":
        return set(_WORD.findall(tests.entry_point))
    names = undefined(tests.code)
    return {*(names.candidate or names.fallback)}


def _blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block; a fence deeper in a block is part of it."""
    blocks: list[tuple[str, list[str]]] = []
    opened: re.Match[str] | None = None
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        fence = _FENCE.fullmatch(line)
        if fence and opened and not _ends(fence, opened):
            fence = None
        if fence and (opened is None or fence["language"]):
            opened = fence
            blocks.append((fence["language"].strip(" {.").partition(" ")[0].lower(), []))
        elif fence:
            opened = None
        elif opened:
            blocks[-1][1].append(line)
    return [(language.strip("}"), textwrap.dedent("\n".join(b))) for language, b in blocks]


def _as_fence(mark: re.Match[str]) -> str:
    closes = mark[1] or mark[2] == "DONE"
    return "\n```\n" if closes else "\n```python\n"


def _ends(fence: re.Match[str], opened: re.Match[str]) -> bool:
    return fence["marks"].startswith(opened["marks"]) and (
        len(fence["indent"]) < len(opened["indent"]) + 4
    )
