"""Answers that carry Python: nothing of theirs is ever evaluated."""

import json
import subprocess
import sys
from pathlib import Path

from stages.verifiers import Pool

PAYLOADS = (
    '__import__("os").system("touch CANARY")',
    "__import__('os').system('touch CANARY')",
    '__import__("subprocess").run(["touch","CANARY"])',
    'open("CANARY","w")',
    "open('CANARY','w').write('x')",
    "exec(\"open('CANARY','w')\")",
    "eval(\"open('CANARY','w')\")",
    "(lambda: open('CANARY','w'))()",
    "lambda x: open('CANARY','w')",
    "[open('CANARY','w') for x in (1,)]",
    "().__class__.__bases__[0].__subclasses__()",
    "(1).__class__.__mro__[1].__subclasses__()",
    "''.__class__.__mro__[1].__subclasses__()[100]",
    "x.__class__.__init__.__globals__['os'].system('touch CANARY')",
    "getattr(__builtins__, 'open')('CANARY', 'w')",
    "__builtins__.open('CANARY', 'w')",
    "globals()['__builtins__']['open']('CANARY', 'w')",
    "'{0.__class__.__init__.__globals__}'.format(x)",
    'f\'{open("CANARY","w")}\'',
    "'%s' % open('CANARY','w')",
    "import os; os.system('touch CANARY')",
    "1 if open('CANARY','w') else 2",
    'sympify(\'open("CANARY","w")\')',
    "Symbol('x').func.__globals__",
    "parse_expr(\"__import__('os').system('touch CANARY')\")",
    'S(\'open("CANARY","w")\')',
    "lambdify(x, \"open('CANARY','w')\")",
    "5 + open('CANARY','w')",
    "x**open('CANARY','w').fileno()",
    "$(touch CANARY)",
    "`touch CANARY`",
    "; touch CANARY;",
)
WRAPPERS = (
    "%s",
    r"\text{%s}",
    r"\mathrm{%s}",
    r"\operatorname{%s}",
    r"\frac{%s}{1}",
    r"\sqrt{%s}",
    r"3 + %s",
    r"x = %s",
    r"\{%s, 1\}",
    r"f(%s)",
    r"a_{%s}",
    r"\left(%s\right)",
)
GOLDS = ("3", "x+1", r"\text{yes}", r"\{1,2\}", "f(x)", "x=3")


def answers(canary: Path) -> list[str]:
    """Each payload bare, in four of the wrappers, and stated without a box."""
    result = [f"The answer is {payload}" for payload in PAYLOADS]
    for number, payload in enumerate(PAYLOADS):
        wrappers = {"%s", *(WRAPPERS[(number + 3 * i) % len(WRAPPERS)] for i in range(4))}
        result += [rf"\boxed{{{wrapper % payload}}}" for wrapper in sorted(wrappers)]
    return [text.replace("CANARY", str(canary)) for text in result]


def test_nothing_that_an_answer_carries_is_executed(tmp_path):
    canary = tmp_path / "canary"
    texts = answers(canary)
    assert len(texts) >= 100
    golds = (GOLDS[i % len(GOLDS)] for i in range(len(texts)))
    with Pool(workers=2) as pool:
        tasks = (
            (i, text, gold, "math", None)
            for i, (text, gold) in enumerate(zip(texts, golds, strict=False))
        )
        result = dict(pool.run(tasks))
        # As a gold, from a data set that somebody tampered with, and as options and references.
        list(pool.check((i, text, "math", None) for i, text in enumerate(texts[:100])))
        list(pool.run((i, text, "B", "choice", None) for i, text in enumerate(texts)))
    assert not canary.exists()
    assert not any(verdict.verdict == "correct" for verdict in result.values())
    # The fence was never touched: an error of its kind would be named here.
    assert not [v.reason for v in result.values() if v.reason and "failed" in v.reason]


AUDITED = """
import json, os, sys
os.environ.update(SYMPY_GROUND_TYPES="python", MPMATH_NOGMPY="1")
from stages.verifiers.math import compare, fence, symbolic, units
units.read_unit("km")  # loads pint, which makes classes of its own
symbolic.prepare_process()
events = []
def record(event, arguments):
    if event == "compile":
        suspect = str(arguments[1] or "<").startswith("<")
    elif event == "exec":
        suspect = arguments[0].co_filename.startswith("<string")
    elif event == "open":
        suspect = bool(set(str(arguments[1])) & set("wax+"))
    else:
        suspect = event in fence._FORBIDDEN_EVENTS
    if suspect and sys._getframe(1).f_code.co_filename not in fence._GENERATORS:
        events.append([event, repr(arguments)[:200]])
sys.addaudithook(record)
compared = 0
for number, text in enumerate(json.load(sys.stdin)):
    try:
        gold, answer = ["3", "x+1", "f(x)"][number % 3], compare.extract(text) or "x"
        task = compare.decide([gold], answer, compare.Rules())
        if isinstance(task, compare.Task):
            compared += 1
            symbolic.compare(task)
    except (ValueError, symbolic.TooLarge, symbolic.UnreadableGold):
        pass
seen = len(events)
eval("1 + 1")
print(json.dumps([events[:seen], len(events) - seen, compared]), flush=True)
os._exit(0)  # the hook does not outlive the modules that it uses
"""


def test_audit_hooks_see_no_evaluation_even_without_the_fence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", AUDITED],
        input=json.dumps(answers(tmp_path / "canary")),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    events, own, compared = json.loads(done.stdout)
    assert events == []
    assert own > 0, "the hook must see the evaluation that the test itself makes"
    assert compared >= 100
    assert not (tmp_path / "canary").exists()


def test_the_fence_stops_an_evaluation_that_a_library_would_make(tmp_path):
    code = (
        "import sympy\n"
        "from stages.verifiers.math import fence, symbolic\n"
        "symbolic.prepare_process()\n"
        "with fence.evaluation_forbidden():\n"
        "    try:\n"
        f"        sympy.sympify(\"open('{tmp_path}/canary','w')\")\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.strip() in ("PermissionError", "SympifyError")
    assert not (tmp_path / "canary").exists()
