"""The structure that docs/architecture.md promises: who imports whom, and how long a file may be.

A *room* is a folder of `stages/`, a *step* a module directly in it. `experiments/settings.py` and
`artifacts/tables.py` count as separate rooms here, because every other room may import them.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "stages").glob("**/*.py"))
    if path != ROOT / "stages" / "__init__.py"
}
STEPS = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
LEAVES = (
    "stages.experiments.settings",
    "stages.experiments.sources",
    "stages.artifacts.tables",
)


def imported(path: Path, lazy: bool = True) -> Iterator[str]:
    """Dotted names that a file imports, at the top and (`lazy`) inside functions."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


def room(module: str) -> str:
    """Room, step or leaf that a module of the project belongs to."""
    return module.removeprefix("stages.") if module in LEAVES else module.split(".")[1]


def arrows() -> dict[str, set[str]]:
    """Which rooms and steps each room or step imports."""
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        targets = {room(n) for n in imported(path) if n in MODULES}
        graph.setdefault(room(module), set()).update(targets - {room(module)})
    return graph


def test_a_room_imports_no_step() -> None:
    rooms = {name: targets for name, targets in arrows().items() if name not in STEPS}
    assert {
        name: targets & set(STEPS) for name, targets in rooms.items() if targets & set(STEPS)
    } == {}


def test_a_step_imports_no_other_step() -> None:
    graph = arrows()
    assert {(step, other) for step in STEPS for other in graph[step] & set(STEPS)} == set()


def test_imports_between_rooms_have_no_cycle() -> None:
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_imports_at_the_top_of_modules_have_no_cycle() -> None:
    graph = {
        module: {n for n in imported(path, lazy=False) if n in MODULES} - {module}
        for module, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize("name", ["lm", "verifiers", "weighting", "metrics"])
def test_a_room_of_pure_functions_knows_neither_snakemake_nor_artifacts(name: str) -> None:
    names = {n for m, path in MODULES.items() if room(m) == name for n in imported(path)}
    assert not [
        n for n in names if n.startswith(("snakemake", "stages.artifacts", "stages.running"))
    ]


@pytest.mark.parametrize("module", LEAVES)
def test_settings_and_tables_import_nothing_of_the_project(module: str) -> None:
    names = imported(MODULES[module])
    assert not [name for name in names if name.startswith("stages") and not name.startswith(LEAVES)]


def test_no_file_is_longer_than_400_lines() -> None:
    folders = ("stages", "tests", "bench", "workflow")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in files
        if path.suffix in (".py", ".smk", ".html", ".css", ".js", ".md")
    }
    assert not {name for name, length in lengths.items() if length > 400}


def test_importing_the_steps_loads_neither_torch_nor_vllm() -> None:
    code = (
        "import importlib, sys;"
        f"[importlib.import_module('stages.' + step) for step in {STEPS}];"
        "print([m for m in ('torch', 'vllm', 'transformers') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]", loaded.stderr


@pytest.mark.parametrize("step", STEPS)
def test_the_docstring_of_a_step_says_how_to_run_it(step: str) -> None:
    assert f"python -m stages.{step}" in str(
        ast.get_docstring(ast.parse(MODULES[f"stages.{step}"].read_text()))
    )
