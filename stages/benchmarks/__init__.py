r"""Benchmarks: one module each in this folder, discovered without registration.

A module defines ``BENCHMARKS``, a tuple of one or more `Benchmark`; `math500.py` is the shortest
example. Items come from the hub or from a local file with the same fields; ``read`` turns a row
into an `Item`.
"""

from __future__ import annotations

import csv
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from stages.common.errors import UserError

Row = Mapping[str, Any]
BOXED = r"Return your final response within \boxed{}. "


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    Attributes
    ----------
    item_id : str
        Unique in the benchmark.
    question : str
        The item's text without instructions, which is checked for contamination.
    prompt : str
        The whole user turn.
    answer, answer_kind, options, tests
        As in the `questions` table, for the verifier.
    difficulty : str, optional
        The source's grade, for the report's breakdown.
    option_order : tuple of int, optional
        Position in the source of each option as shown, where options are shuffled.
    """

    item_id: str
    question: str
    prompt: str
    answer: str | None
    answer_kind: Literal["math", "choice", "code"]
    options: tuple[str, ...] | None = None
    tests: str | None = None
    difficulty: str | None = None
    option_order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Hub:
    """A dataset on the Hugging Face hub: pinned commit, and data files in order.

    The commits are those that public repositories pin for the same datasets.
    """

    dataset: str
    revision: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its items, samples per item, and published scores.

    Attributes
    ----------
    name, title : str
        Name in settings and files; title in tables and figures.
    read : callable
        ``read(row, number)`` returns the row's item, or None for a row of another benchmark.
    samples : int
        Samples per item; `evaluation.benchmarks[].samples` overrides it.
    hub : Hub, optional
        Where items come from when settings name no local file.
    group : "math", "other" or None
        Macro-average that the benchmark belongs to, as arXiv 2509.22637 groups them.
    reference : mapping
        Published scores in percent, by model, with the source in the module.
    """

    name: str
    title: str
    read: Callable[[Row, int], Item | None]
    samples: int
    hub: Hub | None = None
    group: Literal["math", "other"] | None = None
    reference: Mapping[str, float] = field(default_factory=dict)


@cache
def registry() -> dict[str, Benchmark]:
    """Benchmarks of every module in this folder, by name."""
    benchmarks: dict[str, Benchmark] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        for benchmark in importlib.import_module(f"{__name__}.{module}").BENCHMARKS:
            if benchmark.name in benchmarks:
                raise UserError(f"stages/benchmarks: duplicate benchmark name {benchmark.name!r}")
            benchmarks[benchmark.name] = benchmark
    return benchmarks


def find(name: str) -> Benchmark:
    """The benchmark of this name; the error for an unknown name lists all names."""
    if name not in registry():
        known = ", ".join(sorted(registry()))
        raise UserError(f"evaluation.benchmarks: unknown benchmark {name!r}; known are {known}")
    return registry()[name]


def load(benchmark: Benchmark, path: Path | None = None, limit: int | None = None) -> list[Item]:
    """Items of a benchmark in the order of their source.

    Parameters
    ----------
    benchmark : Benchmark
    path : Path, optional
        A local file with the benchmark's fields (.jsonl, .json, .csv or .parquet), or a folder of
        such files, instead of the hub.
    limit : int, optional
        Only the first items.

    Raises
    ------
    UserError
        The source is unavailable, a row lacks a field, or an `item_id` is duplicate.
    """
    items: dict[str, Item] = {}
    for file in _files(benchmark, path):
        for number, row in enumerate(_rows(file)):
            if len(items) == limit:
                return list(items.values())
            item = _read(benchmark, row, number, file)
            if item is None:
                continue
            if item.item_id in items:
                raise UserError(
                    f"{file}: row {number}: duplicate item_id {item.item_id!r} of "
                    f"{benchmark.name}; keep one of the rows"
                )
            items[item.item_id] = item
    if not items:
        raise UserError(f"{path or benchmark.name}: no items of {benchmark.title}")
    return list(items.values())


def _read(benchmark: Benchmark, row: Row, number: int, file: Path) -> Item | None:
    try:
        return benchmark.read(row, number)
    except KeyError as missing:
        raise UserError(
            f"{file}: row {number}: missing field {missing} of {benchmark.title}; "
            f"the row has {', '.join(map(str, row))}"
        ) from None
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{file}: row {number}: invalid item of {benchmark.title}: {error}"
        ) from None


def _files(benchmark: Benchmark, path: Path | None) -> list[Path]:
    if path is None:
        return _download(benchmark)
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in _READERS)
    if not files or not all(f.is_file() for f in files):
        raise UserError(
            f"{path}: no data file of {benchmark.title} (.jsonl, .json, .csv, .parquet)"
        )
    return files


def _download(benchmark: Benchmark) -> list[Path]:
    if benchmark.hub is None:
        raise UserError(
            f"{benchmark.name}: not available on the hub; set evaluation.benchmarks[].path to a "
            "local file"
        )
    from huggingface_hub import snapshot_download

    hub = benchmark.hub
    try:
        folder = snapshot_download(
            hub.dataset, repo_type="dataset", revision=hub.revision, allow_patterns=list(hub.files)
        )
    except Exception as error:  # without a network the hub's client raises a dozen types
        raise UserError(
            f"{benchmark.name}: cannot download {hub.dataset} at {hub.revision[:8]} "
            f"({str(error).splitlines()[0]}); log in if it is gated, or set "
            "evaluation.benchmarks[].path to a local file"
        ) from None
    missing = [f for f in hub.files if not (Path(folder) / f).exists()]
    if missing:
        raise UserError(f"{hub.dataset} at {hub.revision[:8]}: file {missing[0]} is missing")
    return [Path(folder) / f for f in hub.files]


def _rows(file: Path) -> Iterator[Row]:
    if file.suffix not in _READERS:
        raise UserError(f"{file}: unsupported file type; use one of {', '.join(_READERS)}")
    try:
        yield from _READERS[file.suffix](file)
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{file}: cannot read: {error}") from None


def _jsonl(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _json(file: Path) -> Iterator[Row]:
    yield from json.loads(file.read_text(encoding="utf-8"))


def _csv(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(file).iter_batches(batch_size=256):
        yield from batch.to_pylist()


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def unboxed(text: str) -> str:
    r"""The content of ``\boxed{…}`` where a source boxes its answers; other text unchanged."""
    inner = text.strip().removeprefix(r"\boxed{")
    return inner.removesuffix("}") if inner != text.strip() else text.strip()


def lettered(options: tuple[str, ...]) -> str:
    """Options of a choice question, one per line: ``(A) …``."""
    return "\n".join(f"({chr(ord('A') + i)}) {text}" for i, text in enumerate(options))
