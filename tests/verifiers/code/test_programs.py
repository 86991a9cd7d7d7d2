"""Which block of an answer is the program."""

import json

import pytest

from stages.verifiers.code.programs import extract_program, read_tests

ADD = {"kind": "stdin", "inputs": ["1 2\n", "30 4\n"], "outputs": ["3\n", "34\n"]}
DOUBLE = {
    "kind": "call",
    "entry_point": "double",
    "inputs": [[1], [[1, 2]]],
    "outputs": [2, [1, 2, 1, 2]],
}


def program_of(text: str, tests=ADD) -> str | None:
    return extract_program(text, read_tests(json.dumps(tests)))


def test_the_last_python_block_is_the_program():
    assert program_of("```python\na\n```\nor\n```py\nb\n```\n```text\n3\n```") == "b"
    assert program_of("```\na\n```") == "a"
    assert program_of("```bash\nls\n```") is None
    assert program_of("```python\na\nb") == "a\nb"


def test_a_block_that_defines_what_is_called_comes_before_an_example():
    text = "```python\ndef double(x):\n    return 2 * x\n```\n```python\nprint(double(2))\n```"
    assert program_of(text, DOUBLE).startswith("def double")


def test_a_snippet_after_the_solution_is_not_the_program():
    read = "def solve(a):\n    return a\nprint(solve(input()))"
    assert program_of(f"```python\n{read}\n```\n```python\nprint(solve(6))\n```") == read
    tests = {"kind": "assert", "code": "result = f(6)\nassert result == 42"}
    text = "```python\ndef f(x):\n    return 42\n```\n```python\nresult = f(6)\n```"
    assert program_of(text, tests).startswith("def f")


def test_marks_of_begin_and_done_are_fences():
    assert program_of("It is\n[BEGIN]\nprint(1)\n[DONE]\nYes.").strip() == "print(1)"


@pytest.mark.parametrize(
    "text",
    [
        "```{python}\ndouble = lambda x: 2 * x\n```\n```{python}\nprint(double(2))\n```",
        "~~~python title='a'\ndouble = lambda x: 2 * x\n~~~",
        "````Python\ndouble = lambda x: 2 * x\n````",
        "1. ```py\n   double = lambda x: 2 * x\n   ```",
        "```python\r\ndouble = lambda x: 2 * x\r\n```",
        "With ```double``` as follows:\n```python3\ndouble = lambda x: 2 * x\n```",
        "```python\nwrong = 1\n```python\ndouble = lambda x: 2 * x",
    ],
)
def test_fences_are_written_in_many_ways(text):
    assert program_of(text, DOUBLE) == "double = lambda x: 2 * x"


def test_what_is_in_a_text_of_the_program_ends_no_block():
    text = "    '''\n    ```\n    4\n    ```\n    '''\n"
    program = f"def double(x):\n{text}    return 2 * x + ord('\u2028')"
    assert program_of(f"```python\n{program}\n```", DOUBLE) == program


def test_a_text_without_blocks_may_be_a_program():
    assert program_of("def double(x):\n    return 2 * x", DOUBLE).startswith("def double")
    assert program_of("I do not know.", DOUBLE) is None
