"""Score the samples of an experiment's models and write eval.json.

python -m stages.summary --name NAME --eval initial=DIR final=DIR [--questions Q ...]
                         [--artifacts PATH ...] --out eval.json

Each DIR is an output of stages.evaluate; models are given in the order of training. With the
training questions, overlapping benchmark items are reported, and scores without them. The cost of
each artifact, a file, folder of shards or model of an earlier step, is listed in eval.json.
The schema is documented in docs/eval.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.metrics import aggregation
from stages.metrics.evaluation import Cost, Evaluation
from stages.running import command


def main(argv: list[str] | None = None) -> None:
    """Read the sample tables, score them, write eval.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="name of the experiment")
    parser.add_argument(
        "--eval",
        type=command.model_folder,
        nargs="+",
        required=True,
        metavar="MODEL=DIR",
        dest="folders",
    )
    parser.add_argument("--questions", type=Path, nargs="*", help="tables of training questions")
    parser.add_argument("--artifacts", type=Path, nargs="*", default=[], help="list their cost")
    parser.add_argument("--out", type=Path, required=True, help="eval.json")
    args = parser.parse_args(argv)

    folders = dict(args.folders)
    evaluation = aggregation.summarise(
        {model: load(folder) for model, folder in folders.items()},
        experiment=args.name,
        protocol=protocol(folders.values()),
        training_questions=training_questions(args.questions),
        cost=[cost(p) for p in [*args.artifacts, *(f for d in folders.values() for f in files(d))]],
    )
    store.write_json(args.out, evaluation.model_dump(mode="json"))
    print(headline(evaluation))


def files(folder: Path) -> list[Path]:
    """Sample tables of a model: those of its last evaluation; without benchmarks.json, all."""
    listed = folder / "benchmarks.json"
    if not listed.exists():
        return store.shards(folder)
    return [folder / f"{name}.parquet" for name in json.loads(listed.read_text())]


def load(folder: Path) -> dict[str, aggregation.Answers]:
    """A model's samples by benchmark, from the folder that stages.evaluate wrote."""
    by_benchmark = {}
    for file in files(folder):
        try:
            data = store.read_table(file, tables.SAMPLES, aggregation.COLUMNS).to_pandas()
        except UserError as error:
            listed = folder / "benchmarks.json"  # the one output that Snakemake knows
            raise UserError(f"{error}\nTo evaluate again, delete {file} and {listed}") from None
        for name, samples in data.groupby("benchmark", sort=False):
            by_benchmark[str(name)] = aggregation.answers(samples, str(file))
    return by_benchmark


def protocol(folders: Any) -> str | None:
    """Protocol of all samples; None if they differ."""
    used = {
        store.read_provenance(file).get("settings", {}).get("evaluation", {}).get("protocol")
        for folder in folders
        for file in files(folder)
    }
    return used.pop() if len(used) == 1 else None


def training_questions(paths: list[Path] | None) -> list[str] | None:
    """Texts of the training questions; None without a table."""
    if not paths:
        return None
    read = [store.read_table(path, tables.QUESTIONS, ["question"]) for path in paths]
    return [text for table in read for text in table["question"].to_pylist()]


def cost(path: Path) -> Cost:
    """Cost of one artifact: a file, a folder of shards, or a model."""
    is_model = (path / "config.json").exists() or (path / "provenance.json").exists()
    parts = [path] if is_model else store.shards(path)
    # a model from outside the pipeline has no provenance
    recorded = (path / "provenance.json").exists() or not is_model
    records = [store.read_provenance(part) if recorded else {} for part in parts]
    seconds = [one["seconds"] for one in records if one.get("seconds") is not None]
    tokens = [one["tokens"] for one in records if one.get("tokens") is not None]
    devices = sorted({one["device"] for one in records if one.get("device")})
    return Cost(
        artifact=label(path),
        step=records[0].get("step", "unknown"),
        files=len(parts),
        seconds=sum(seconds) if seconds else None,
        tokens=sum(tokens) if tokens else None,
        device=", ".join(devices) or None,
    )


def label(path: Path) -> str:
    """An artifact's name in its results folder: what follows `results/<experiment>/`."""
    parts = path.parts
    start = parts.index("results") + 2 if "results" in parts[:-2] else max(0, len(parts) - 3)
    return "/".join(parts[start:]).removesuffix(".parquet")


def headline(evaluation: Evaluation) -> str:
    """One line per model and benchmark, for the terminal and the log."""
    lines = []
    for result in evaluation.results:
        average, interval = result.average, result.average.population
        bounds = (
            f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
            if interval.low is not None and interval.high is not None
            else ""
        )
        value = "no score" if average.value is None else f"{100 * average.value:.1f} %"
        lines.append(
            f"{result.model} on {result.benchmark}: {value}{bounds} "
            f"over {result.items} items x {result.samples} samples"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main)
