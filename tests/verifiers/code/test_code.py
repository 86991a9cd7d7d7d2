"""Programs against tests of all kinds, in whatever sandbox this machine has."""

import json
from pathlib import Path

import pytest

from stages.verifiers import Pool, VerifyOptions, check_reference
from stages.verifiers.code import programs
from stages.verifiers.code.programs import as_tests

ADD = {"kind": "stdin", "inputs": ["1 2\n", "30 4\n"], "outputs": ["3\n", "34\n"]}
DOUBLE = {
    "kind": "call",
    "entry_point": "double",
    "inputs": [[1], [[1, 2]]],
    "outputs": [2, [1, 2, 1, 2]],
}


@pytest.fixture(scope="module")
def judge(pool):
    def run(program: str, tests, **options):
        given = VerifyOptions(tests=json.dumps(tests), **options)
        text = f"Here it is:\n```python\n{program}\n```\n"
        ((_, verdict),) = pool.run([(None, text, None, "code", given)])
        return verdict

    return run


@pytest.mark.parametrize(
    "program",
    [
        "a, b = map(int, input().split())\nprint(a + b)",
        "import sys\nprint(sum(int(x) for x in sys.stdin.read().split()))",
        "import sys\nprint(sum(map(int, sys.stdin.buffer.readline().split())))",
        "print(sum(map(int, open(0).read().split())))",
        "def main():\n    print(sum(map(int, input().split())))\n"
        "if __name__ == '__main__':\n    main()",
        "import sys\nprint(sum(map(int, input().split())))\nsys.exit()",
        "print(sum(map(int, input().split())))\nexit()",
        "print(sum(map(int, sys.stdin.readline().split())))\nquit(0)",
        "from __future__ import annotations\nprint(sum(map(int, input().split())))",
        "import sys\nsys.stdout.write(str(sum(map(int, input().split()))))\nsys.exit(0)",
        "import threading\n"
        "t = threading.Thread(target=lambda: print(sum(map(int, input().split()))))\nt.start()",
        "import atexit\nx = input()\natexit.register(lambda: print(sum(map(int, x.split()))))",
        "import sys\nsys.setrecursionlimit(10**6)\n"
        "f = lambda n: n and 1 + f(n - 1)\nprint(f(5000) * 0 + sum(map(int, input().split())))",
        "out = open(1, 'w')\nprint(sum(map(int, input().split())), file=out)",
        "import os\nout = os.fdopen(1, 'wb')\nout.write(b'%d' % sum(map(int, input().split())))",
        "import io, sys\nsys.stdout = io.StringIO()\nprint(sum(map(int, input().split())))\n"
        "sys.__stdout__.write(sys.stdout.getvalue())",
        "import resource as r\nsoft, hard = r.getrlimit(r.RLIMIT_STACK)\n"
        "r.setrlimit(r.RLIMIT_STACK, (hard, hard))\nprint(sum(map(int, input().split())))",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int\n"
        "p = P(*map(int, input().split()))\nprint(p.x + p.y)",
    ],
)
def test_programs_read_and_print_in_many_ways(judge, program):
    verdict = judge(program, ADD)
    assert verdict.verdict == "correct", verdict.reason


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print(3)", "test 2 of 2: another output"),
        ("print(sum(map(int, input().split())))\nraise KeyError", "test 1 of 2: KeyError"),
        ("print(", "does not compile: SyntaxError"),
        ("import numpy", "test 1 of 2: ModuleNotFoundError"),
        ("while True:\n    pass", "over its time of 1 s"),
    ],
)
def test_reasons_name_the_test_and_the_sandbox(judge, pool, program, reason):
    verdict = judge(program, ADD, time_limit=1.0)
    assert verdict.verdict == "incorrect"
    assert reason in verdict.reason
    assert verdict.reason.endswith(f"[{pool.sandbox()}]")


@pytest.mark.parametrize(
    "program",
    [
        "def double(x):\n    return x * 2",
        "class Solution:\n    def double(self, x):\n        return x + x",
        "import math\ndef helper(x):\n    return x\ndef double(x):\n    return helper(x) * 2",
        "def double(x):\n    print('noise')\n    return x * 2\nprint(input)",
        "def double(x):\n    return tuple(x * 2) if isinstance(x, list) else x * 2",
        "def double(x):\n    return 2 * x\nif __name__ == '__main__':\n    double(input())",
    ],
)
def test_functions_and_methods_are_called(judge, program):
    verdict = judge(program, DOUBLE)
    assert verdict.verdict == "correct", verdict.reason


@pytest.mark.parametrize(
    "program",
    [
        "class Solution:\n    def double(self, x: List[int]) -> Optional[int]:\n"
        "        return x * 2",
        "@cache\ndef two():\n    return 2\ndef double(x):\n    return x * two() + 0 * int(sqrt(4)) "
        "if isinstance(x, int) else list(chain(x, x))",
        "def double(x):\n    heapq, c = [], Counter('aa')\n    return x * c['a']",
        "def nested(n):\n    return n and nested(n - 1)\n"
        "def double(x):\n    return x * 2 + nested(9999) if isinstance(x, int) else x * 2",
    ],
)
def test_what_graders_import_before_a_program_is_there(judge, program):
    verdict = judge(program, DOUBLE)
    assert verdict.verdict == "correct", verdict.reason


ANY = "    return True\n"
TREES = "def check(f):\n    assert is_same_tree(f([1]), tree_node([1, 2]))\ncheck(f)"
SHIFT = "def check(c):\n    assert c(encode_shift('abc')) == 'abc'\ncheck(f)"
ZERO = "def check(c):\n    assert abs(poly([1, 2], c([1, 2]))) < 1e-4\ncheck(f)"
CYCLE = "def check(c):\n    assert c(encode_cyclic('abcd')) == 'abcd'\ncheck(f)"


@pytest.mark.parametrize(
    ("code", "program"),
    [
        (TREES, "def is_same_tree(a, b):\n" + ANY + "def f(x):\n    return None"),
        (SHIFT, "def encode_shift(s):\n    return s\ndef f(s):\n    return s"),
        (CYCLE, "def encode_cyclic(s):\n    return s\ndef f(s):\n    return s"),
        (ZERO, "def poly(xs, x):\n    return 0\ndef f(xs):\n    return 1"),
        (
            "assert math.fabs(f(9) - 3) < 1e-6",
            "class math:\n    fabs = staticmethod(lambda x: 0)\ndef f(x):\n    return 1",
        ),
        (
            "assert isclose(f(9), 3)",
            "def isclose(a, b):\n" + ANY + "def f(x):\n    return 1",
        ),
        ("assert same(f(9), 3)", "def same(a, b):\n" + ANY + "def f(x):\n    return 1"),
        ("assert abs(sum([1, 2]) - 3) < 1", "def abs(x):\n    return 0\ndef sum(x):\n    return 9"),
    ],
)
def test_what_the_tests_use_never_comes_from_the_candidate(judge, code, program):
    assert judge(program, {"kind": "assert", "code": code}).verdict == "incorrect"


@pytest.mark.parametrize(
    ("code", "program"),
    [
        (ZERO, "def f(xs):\n    return -0.5"),
        (SHIFT, "def f(s):\n    return ''.join(chr((ord(c) - 102) % 26 + 97) for c in s)"),
        ("def check(c):\n    assert c(1, 2) == 3\ncheck(add)", "def add(a, b):\n    return a + b"),
        ("assert gcd(12, 8) == 4", "def gcd(a, b):\n    return a if not b else gcd(b, a % b)"),
        (
            "assert decode(encode('ab')) == 'ab'",
            "def encode(s):\n    return s\ndef decode(s):\n    return s",
        ),
        (
            TREES,
            "class T:\n    def __init__(self, v, r=None):\n        self.val, self.right = v, r\n"
            "        self.left = None\ndef f(x):\n    t = T(1)\n    t.left = T(2)\n    return t",
        ),
    ],
)
def test_helpers_of_the_tests_are_theirs(judge, code, program):
    verdict = judge(program, {"kind": "assert", "code": code})
    assert verdict.verdict == "correct", verdict.reason


def test_nothing_is_imported_beside_assertions(judge):
    tests = {"kind": "assert", "code": "assert f(4) == 2"}
    assert judge("def f(x):\n    return math.sqrt(x)", tests).verdict == "incorrect"


def test_a_method_named_outright_needs_its_class(judge):
    tests = {**DOUBLE, "entry_point": "Solution.double"}
    method = "class Solution:\n    n = 0\n    def double(self, x):\n        return x * 2"
    assert judge(method, tests).verdict == "correct"
    assert judge("def double(x):\n    return x * 2", tests).verdict == "incorrect"


def test_an_object_is_new_for_every_call(judge):
    counting = (
        "class Solution:\n    def __init__(self):\n        self.n = 0\n"
        "    def double(self, x):\n        self.n += 1\n        return x * 2 * self.n"
    )
    assert judge(counting, DOUBLE).verdict == "correct"


def test_assertions_see_values_mutations_exceptions_and_objects(judge):
    program = (
        "import math\nfrom collections import Counter, deque, namedtuple\n"
        "LIMIT = 7\n"
        "class Node:\n    def __init__(self, value):\n        self.value = value\n"
        "    def next(self):\n        return Node(self.value + 1)\n"
        "    def __iter__(self):\n        return iter([self.value])\n"
        "def swap(x):\n    x[0], x[1] = x[1], x[0]\n"
        "def fail(x):\n    raise ValueError(x)\n"
        "def numbers(n):\n    yield from range(n)\n"
        "def count(text):\n    return Counter(text)\n"
        "def pair():\n    return namedtuple('P', 'x y')(1, 2)\n"
        "def sets():\n    return {1, 2}, frozenset({3}), {'a': [None, True]}, b'x', 1j, range(3)\n"
        "def key(**named):\n    return named\n"
    )
    code = (
        "x = [1, 2]\nswap(x)\nassert x == [2, 1]\n"
        "try:\n    fail(3)\n    assert False\nexcept ValueError:\n    pass\n"
        "assert list(numbers(3)) == [0, 1, 2]\n"
        "assert count('aab') == {'a': 2, 'b': 1}\n"
        "assert pair() == (1, 2)\n"
        "assert sets() == ({1, 2}, {3}, {'a': [None, True]}, b'x', 1j, range(3))\n"
        "assert key(a=1) == {'a': 1}\n"
        "assert LIMIT == 7 and math.fabs(-1) == 1\n"
        "node = Node(1).next()\nassert node.value == 2 and list(node) == [2]\n"
    )
    verdict = judge(program, {"kind": "assert", "code": code})
    assert verdict.verdict == "correct", verdict.reason


def test_assertions_may_build_objects_of_the_programs_classes(judge):
    program = (
        "class Node:\n    def __init__(self, data):\n        self.data = data\n"
        "        self.left = self.right = None\n"
        "def depth(node):\n    return 1 + max(depth(node.left), depth(node.right)) if node else 0"
    )
    code = "root = Node(1)\nroot.left = Node(2)\nassert root\nassert depth(root) == 2"
    assert judge(program, {"kind": "assert", "code": code}).verdict == "correct"


@pytest.mark.parametrize(
    ("code", "program"),
    [
        ("x = [3, 1]\nf(xs=x)\nassert x == [1, 3]", "def f(xs):\n    xs.sort()"),
        (
            "from fractions import Fraction\nassert f(Fraction(1, 2)) == Fraction(1, 4)",
            "def f(x):\n    return x * x",
        ),
        (
            "from collections import deque\nassert f(deque([1, 2])) == deque([2, 1])",
            "def f(x):\n    x.reverse()\n    return x",
        ),
        (
            "import datetime as d\nassert f(d.date(2024, 2, 28)) == d.date(2024, 2, 29)",
            "import datetime\ndef f(x):\n    return x + datetime.timedelta(days=1)",
        ),
        ("assert f({'a': 1}) == {'a': 1}.keys()", "def f(x):\n    return x.keys()"),
        (
            "assert f([1, 'a'], int) == [1]",
            "def f(x, t):\n    return [i for i in x if type(i) is t]",
        ),
        (
            "try:\n    f(1)\n    assert False\nexcept TooSmall as error:\n"
            "    assert 'small' in str(error) and isinstance(error, ValueError)",
            "class TooSmall(ValueError):\n    pass\ndef f(x):\n    raise TooSmall('too small')",
        ),
        (
            "a = V(1) + V(2)\nassert a == V(3) and str(a) == 'V3' and isinstance(a, V)\n"
            "assert V(1) < V(2) and 1 in V(1) and 2 not in V(1)",
            "class V:\n    def __init__(self, x):\n        self.x = x\n"
            "    def __add__(self, o):\n        return V(self.x + o.x)\n"
            "    def __eq__(self, o):\n        return self.x == o.x\n"
            "    def __lt__(self, o):\n        return self.x < o.x\n"
            "    def __contains__(self, x):\n        return self.x == x\n"
            "    def __str__(self):\n        return f'V{self.x}'",
        ),
        (
            "import asyncio\nassert asyncio.run(f(3)) == 4",
            "async def f(n):\n    return n + 1",
        ),
        (
            "import io, sys\nold, sys.stdout = sys.stdout, io.StringIO()\nf('hi')\n"
            "out, sys.stdout = sys.stdout.getvalue(), old\nassert out == 'hi!\\n'",
            "def f(s):\n    print(s + '!')",
        ),
    ],
)
def test_values_and_classes_cross_between_tests_and_program(judge, code, program):
    verdict = judge(program, {"kind": "assert", "code": code})
    assert verdict.verdict == "correct", verdict.reason


@pytest.mark.parametrize(
    "code", ["assert f(3) in (9, 10)", "assert abs(f(3) - 9) < 1", "1 < f(3) < 9"]
)
def test_an_object_of_the_programs_is_equal_to_no_value_of_the_tests(judge, code):
    methods = "__eq__ = __lt__ = __gt__ = __contains__ = lambda s, o: True"
    program = (
        f"class Z:\n    {methods}\n    __sub__ = __abs__ = lambda *a: 0\ndef f(n):\n    return Z()"
    )
    assert judge(program, {"kind": "assert", "code": code}).verdict == "incorrect"


def test_a_function_named_like_a_builtin_can_be_tested(judge):
    tests = {"kind": "assert", "code": "assert sum(10, 15) == 6"}
    assert judge("def sum(a, b):\n    return 6", tests).verdict == "correct"


def test_labelled_programs(pool, rows):
    labelled = {row["id"]: row for row in rows("verifier/code_labelled")}
    chosen = list(labelled.values())[::4]  # all of them in bench/verifiers.py
    tasks = (
        (row["id"], row["answer"], None, "code", VerifyOptions(tests=json.dumps(row["tests"])))
        for row in chosen
    )
    found = dict(pool.run(tasks))
    assert [k for k, v in found.items() if (v[0] == "correct") != labelled[k]["correct"]] == []


# Tests in other forms -----------------------------------------------------------------------------


def test_the_form_of_apps_and_taco(judge):
    stdin = {"inputs": ["1 2\n", ["3 4"]], "outputs": ["3\n", ["7"]]}
    assert judge("print(sum(map(int, input().split())))", stdin).verdict == "correct"
    call = {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, [7]]}
    assert judge("def add(a, b):\n    return a + b", call).verdict == "correct"
    assert judge("def add(a, b):\n    return a - b", call).verdict == "incorrect"


def test_livecodebenchs_arguments_are_json_by_line():
    tests = as_tests({"fn_name": "f", "inputs": ['[1, 2]\n"x"'], "outputs": ["true"]})
    assert tests.inputs == ([[1, 2], "x"],)
    assert tests.outputs[0].results == (True,)


def test_only_newlines_part_the_arguments_of_a_call():
    tests = as_tests({"fn_name": "f", "inputs": ['"a\u2028b"\n1'], "outputs": ["true"]})
    assert tests.inputs == (["a\u2028b", 1],)


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        (None, "no tests"),
        ("{", "no JSON"),
        ("[]", "object"),
        ("{}", "kind of tests"),
        ('{"kind": "poem"}', "poem"),
        ('{"kind": "assert"}', "code"),
        ('{"kind": "assert", "code": "assert f("}', "not valid Python"),
        ('{"kind": "stdin", "inputs": ["1"], "outputs": []}', "1 inputs and 0 outputs"),
        ('{"kind": "stdin", "inputs": [], "outputs": []}', "0 inputs"),
        ('{"kind": "call", "inputs": [[1]], "outputs": [1]}', "entry_point"),
        ('{"kind": "call", "entry_point": "f(", "inputs": [[1]], "outputs": [1]}', "entry_point"),
        (
            '{"kind": "call", "entry_point": "f", "inputs": [1], "outputs": [1]}',
            "lists of arguments",
        ),
    ],
)
def test_tests_that_cannot_be_used_are_refused(tests, said):
    assert said in check_reference(None, "code", tests)


def test_a_worker_does_not_grow_with_what_comes_back(judge, pool):
    tests = {"kind": "call", "entry_point": "f", "inputs": [[1]], "outputs": [1]}
    verdict = judge("def f(a):\n    return [range(100000)] * 100000", tests)
    assert verdict.verdict == "incorrect"
    status = [Path(f"/proc/{m.pid}/status").read_text() for m in pool._workers._all]
    peaks = [int(line.split()[1]) for s in status for line in s.splitlines() if "VmHWM" in line]
    assert max(peaks) < 500 << 10


def test_expected_outputs_never_enter_the_sandbox(monkeypatch):
    """Whatever is sent to the runner for stdin and call tests, no expectation is in it."""
    from stages.verifiers.code import judge as programs_judge
    from stages.verifiers.code import sandbox

    sent = []
    send = programs_judge.Session.send

    def record(self, message, deadline):
        sent.append(repr(message))
        send(self, message, deadline)

    monkeypatch.setattr(programs_judge.Session, "send", record)
    backend = sandbox.backend(programs_judge.choose())
    secret = "73519284"
    for tests, program in (
        (programs.Tests("stdin", ("1",), (secret,)), "print(1)"),
        (
            programs.Tests("call", ([1],), (programs.Accepted((secret,)),), "f"),
            "def f(x):\n    return x",
        ),
    ):
        assert programs_judge.run(program, tests, backend, 5, 512)[0] == "incorrect"
    assert len(sent) >= 4
    assert not any(secret in message for message in sent)


def test_a_pool_goes_on_after_a_program_that_was_killed():
    with Pool(workers=1, time_limit=0.5) as pool:
        given = VerifyOptions(tests=json.dumps(ADD))
        spin, fine = "while True: pass", "print(sum(map(int, input().split())))"
        tasks = [
            (i, f"```python\n{p}\n```", None, "code", given) for i, p in enumerate((spin, fine))
        ]
        found = dict(pool.run(tasks))
    assert [found[0].verdict, found[1].verdict] == ["incorrect", "correct"]
