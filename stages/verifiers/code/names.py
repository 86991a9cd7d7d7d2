"""Whose a name is that assertions use and do not define: the candidate's, or the tests' own.

Only what is under test may come from the candidate: the entry points, and classes. A comparison
that the candidate could supply, such as `is_same_tree` or `math`, would accept any result.
"""

import ast
import builtins
import symtable
import sys
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stages.verifiers.code.inside.candidates import COMMON

PRELUDE = Path(__file__).with_name("inside") / "prelude.py"
_LEETCODE = frozenset({"list_node", "tree_node", "is_same_list", "is_same_tree"})
_HUMANEVAL = frozenset({"poly", "encode_cyclic", "encode_shift"})
_CLASSES = frozenset({"ListNode", "TreeNode"})
_COMMON = {name: module for module, names in COMMON.items() for name in names.split() if module}


@dataclass(frozen=True)
class Names:
    """The names that a test leaves undefined.

    `candidate` may come from the candidate; of `fallback`, tried in this order where there is no
    other, only one. `setup` is code of the tests' side that defines the rest.
    """

    candidate: tuple[str, ...]
    fallback: tuple[str, ...]
    setup: str


@lru_cache(maxsize=64)
def undefined(code: str) -> Names:
    """Sort the undefined names of assertions; SyntaxError if they are not Python."""
    tree = ast.parse(code)
    nodes = list(ast.walk(tree))
    names = _globals(symtable.symtable(code, "tests", "exec"))
    attributed = {
        n.value.id for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    checked = _checked(tree) & names
    modules = {n for n in names & attributed if n in sys.stdlib_module_names} - checked
    helpers = names & (_LEETCODE | _HUMANEVAL)
    if helpers & _LEETCODE:
        helpers |= names & _CLASSES
    helpers -= checked
    library = names & _COMMON.keys() - modules - checked
    own = names - modules - helpers - library - set(dir(builtins))
    fallback = _innermost_first(nodes, library | helpers | (names & set(dir(builtins))))
    entries = checked or own - {name for node in nodes for name in _comparators(node, own)}
    candidate = entries | {n for n in own if n[0].isupper()}
    if own and not checked:  # its own `count` may be under test, its `sqrt` of a result may not
        candidate |= library - {name for node in nodes for name in _around(node, own)}
    setup = [f"import {name}" for name in sorted(modules)]
    setup += [f"from {_COMMON[name]} import {name}" for name in sorted(library)]
    if helpers or names & _CLASSES:
        setup.append(PRELUDE.read_text())
    return Names(tuple(sorted(candidate)), () if candidate else tuple(fallback), "\n".join(setup))


def _globals(module: symtable.SymbolTable) -> set[str]:
    """Global names that are read in any scope and assigned in none."""
    read: set[str] = set()
    assigned: set[str] = set()
    tables = [module]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table is module or symbol.is_global():
                read |= {symbol.get_name()} if symbol.is_referenced() else set()
                if symbol.is_assigned() or symbol.is_imported():
                    assigned.add(symbol.get_name())
    return read - assigned


def _checked(tree: ast.Module) -> set[str]:
    """What a function of the tests is given to check, as in ``check(f)``: all that is under test.

    Without such a call, any name is, except those whose result is an assertion's truth and whose
    arguments are other results (`_comparators`).
    """
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    calls = [
        s.value for s in tree.body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)
    ]
    return {_root(a) for call in calls if _root(call) in defined for a in call.args}


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else ""


def _comparators(node: ast.AST, own: set[str]) -> set[str]:
    if not isinstance(node, ast.Assert):
        return set()
    test = node.test
    while isinstance(test, ast.UnaryOp):
        test = test.operand
    return _around(test, own)


def _around(node: ast.AST, own: set[str]) -> set[str]:
    """The function that is called with a result of the candidate's among its arguments."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return set()
    inner = {n.id for a in node.args for n in ast.walk(a) if isinstance(n, ast.Name)}
    return {node.func.id} if inner & own - {node.func.id} else set()


def _innermost_first(nodes: list[ast.AST], names: set[str]) -> list[str]:
    """Functions by the number of calls around them: what is asserted about is called innermost."""
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    around = Counter(id(inner) for call in calls for inner in ast.walk(call))
    depth: dict[str, int] = {}
    for call in calls:
        if isinstance(call.func, ast.Name):
            depth[call.func.id] = max(depth.get(call.func.id, 0), around[id(call)])
    return sorted(names & depth.keys(), key=lambda name: (-depth[name], name))
