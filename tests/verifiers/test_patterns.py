"""No pattern that meets a model's text can make the parent process hang."""

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

from stages.verifiers import choice, text
from stages.verifiers.math import numerals, units
from stages.verifiers.patterns import COMPILED

ROOM = Path(__file__).parents[2] / "stages" / "verifiers"
SECONDS = 60  # of processor time, for what takes a few

GUARDED = r"""
import re, sys
from stages.verifiers import choice, text
from stages.verifiers.math import compare, latex, quantities, units
from stages.verifiers.patterns import COMPILED

def pieces(source):
    # words, commands and characters of an expression, as text that nearly matches it
    plain = re.sub(r"\(\?[a-z:=!<]+|\{[0-9,]+\}|\\b", " ", source)
    found = re.findall(r"\\\\[A-Za-z]+|[A-Za-z]{2,}|\\[^A-Za-z]", plain)
    return sorted({p.replace("\\\\", "\\").removeprefix("\\") if p[1:2] in "{}()[]$^*.|" else
                   p.replace("\\\\", "\\") for p in found})[:12]

def families(source):
    own = pieces(source) or ["a"]
    units = [*own, " ", "\n", "7", "(", "{", "[", "\\", "7 a", "7,", "a/", " per ", "()", "{}",
             "".join(own), " ".join(own), *(o + " " for o in own[:4]), *("7" + o for o in own[:4])]
    for size in (256, SIZE):
        for unit in units:
            text = unit * (size // len(unit))
            yield text
            yield "7 " + text + " !"
        nested = "(" * (size // 2) + ")" * (size // 2)
        yield nested

SIZE = 100_000
for source, compiled in COMPILED.items():
    for text_ in families(source):
        for _ in zip(range(1000), compiled.finditer(text_)):
            pass
        compiled.fullmatch(text_)
SIZE = compare.MAX_TEXT // 4
patterns = [(v.pattern, v) for m in (latex, quantities, compare) for v in vars(m).values()
            if isinstance(v, re.Pattern)] + [(p.pattern, p) for p, _ in latex._REWRITES]
for source, compiled in patterns:
    for text_ in families(source):
        compiled.sub("", " ".join(text_.split()))
        compiled.fullmatch(text_)
print(len(COMPILED), len(patterns))
"""


def test_modules_that_see_whole_texts_match_in_linear_time():
    for name in ("text.py", "choice.py", "math/units.py", "math/numerals.py"):
        tree = ast.parse((ROOM / name).read_text())
        imports = [
            alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
        ]
        assert "re" not in imports, f"{name}: compile its patterns with stages.verifiers.patterns"
    for module in (choice, text, units, numerals):
        assert not any(isinstance(value, re.Pattern) for value in vars(module).values())
    assert len(COMPILED) > 20
    assert not any(isinstance(compiled, re.Pattern) for compiled in COMPILED.values())


def test_every_pattern_ends_on_texts_made_of_its_own_pieces():
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    done = subprocess.run(
        [sys.executable, "-c", GUARDED],
        capture_output=True,
        text=True,
        cwd=ROOM.parents[1],
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr[-2000:]
