"""Make the page that a person opens first, report.html: one file that needs no network.

python -m stages.report --eval eval.json [--settings S] [--models initial=DIR final=DIR ...]
                        [--questions Q] [--traces T ...] [--verdicts V ...] [--weights W ...]
                        [--summaries J ...] --out report.html

Traces, verdicts, weights and their summaries are given a round each, in the order of rounds.
Whatever is left out is left out of the page; with eval.json alone it is a page of scores, which is
also how several experiments are compared.
"""

import json
import re
from argparse import Namespace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from stages import prompts
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.metrics.evaluation import VERSION, Evaluation
from stages.reporting import content, examples, figures, page
from stages.running import command
from stages.weighting import importance


def main(argv: list[str] | None = None) -> None:
    """Read what there is, draw it, write the page."""
    parser = command.parser(__doc__)
    parser.add_argument("--eval", type=Path, required=True, help="eval.json")
    parser.add_argument(
        "--models", type=command.model_folder, nargs="*", default=[], metavar="NAME=DIR"
    )
    parser.add_argument("--questions", type=Path, help="table of questions")
    for name in ("traces", "verdicts", "weights", "summaries"):
        parser.add_argument(f"--{name}", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True, help="report.html")
    args = parser.parse_args(argv)

    evaluation = read_evaluation(args.eval)
    context = scores(evaluation)
    figures_by_id: dict[str, Any] = {}
    parts = {
        "pass": figures.pass_at_k(evaluation),
        "difficulty": figures.by_difficulty(evaluation),
        "training": figures.training(logs := training_logs(args.models)),
    }
    for name, panels in parts.items():
        context[f"{name}_panels"] = place(panels, name, figures_by_id)
    if context["has_differences"]:
        figures_by_id["differences"] = figures.differences(evaluation, context["reference"])
    context["training_colours"] = figures.colours(list(logs))
    context["rounds"], context["examples"] = rounds(args, figures_by_id)
    context["notes"] += [note for section in context["rounds"] for note in section["notes"]]
    text = page.render(context | {"sections": sections(context)}, figures_by_id)
    with store.atomic(args.out) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    print(args.out.resolve())


def read_evaluation(path: Path) -> Evaluation:
    """Read an eval.json and check it against its schema."""
    try:
        content = json.loads(path.read_text())
        if content.get("version") != VERSION:
            raise UserError(
                f"{path}: schema version {content.get('version')}, expected {VERSION}; "
                "run stages.summary again"
            )
        return Evaluation.model_validate(content)
    except OSError as error:
        raise UserError(f"{path}: cannot read ({error.strerror})") from None
    except (json.JSONDecodeError, AttributeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not a valid eval.json ({first}); run stages.summary again"
        ) from None


def scores(evaluation: Evaluation) -> dict[str, Any]:
    """The page's variables about the evaluation."""
    reference = content.reference(evaluation)
    gainers = list(content.differences(evaluation, reference)) if reference else []
    shades = figures.colours(evaluation.models)
    names = evaluation.experiment.split("+")
    return {
        "name": evaluation.experiment,
        "title": " and ".join(names) if len(names) > 1 else evaluation.experiment,
        "headline": content.headline(evaluation),
        "notes": content.notes(evaluation),
        "models": evaluation.models,
        "reference": reference,
        "gainers": gainers,
        "colours": shades,
        "gain_colours": {m: shades[m] for m in gainers},
        "score_rows": content.score_rows(evaluation),
        "at_k_rows": content.at_k_rows(evaluation),
        "has_differences": bool(gainers),
        "ledger": content.ledger(evaluation.cost),
        "made": f"Schema of eval.json: version {evaluation.version}. Intervals are of level "
        f"{evaluation.level:.0%}.",
    }


def place(panels: dict[str, Any], name: str, figures_by_id: dict[str, Any]) -> list[dict[str, str]]:
    """Assign each panel an element id and store its figure under it; `layout.meta` is the note."""
    placed = []
    for number, (title, figure) in enumerate(panels.items()):
        figures_by_id[f"{name}-{number}"] = figure
        note = figure.layout.meta or ""
        placed.append({"title": title, "id": f"{name}-{number}", "note": note})
    return placed


def training_logs(models: list[tuple[str, Path]]) -> dict[str, pd.DataFrame]:
    """Training logs of the models that have one: a model from elsewhere has none."""
    logs = {name: folder / "training_log.parquet" for name, folder in models}
    return {
        name: store.read_table(path, tables.TRAINING_LOG).to_pandas()
        for name, path in logs.items()
        if path.exists()
    }


def rounds(args: Namespace, figures_by_id: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """A section for each round, and the examples of the last one."""
    listed, packed = [], None
    questions = None
    if args.questions is not None and args.traces:
        questions = store.read_table(args.questions, tables.QUESTIONS).to_pandas()
        questions = questions.astype(object).where(questions.notna(), None)
    several = len(args.traces) > 1
    inputs = zip_longest(args.traces, args.verdicts, args.weights, args.summaries)
    for number, (trace_path, verdict_path, weight_path, summary_path) in enumerate(inputs, 1):
        traces = _read(trace_path, tables.TRACES, ["trace", "n_tokens", "closed"])
        weights = _read(weight_path, tables.WEIGHTS)
        summary = json.loads(summary_path.read_text()) if summary_path else {}
        title = f"Traces of round {number}" if several else "Traces"
        listed.append(
            round_section(f"round-{number}", title, traces, weights, summary, figures_by_id)
        )
        if questions is not None and traces is not None and weights is not None:
            verdicts = _read(verdict_path, tables.VERDICTS, ["verdict"])
            hints = {
                row["question_id"]: prompts.hint_of(row, args.settings.posterior.hint)
                for row in questions.to_dict("records")
            }
            packed = examples.pack(questions, hints, traces, weights, verdicts)
            packed["round"] = f"round {number}" if several else ""
    return listed, packed


def _read(path: Path | None, table: tables.Table, columns: list[str] | None = None) -> Any:
    return None if path is None else store.read_table(path, table, columns).to_pandas()


def round_section(
    name: str,
    title: str,
    traces: pd.DataFrame | None,
    weights: pd.DataFrame | None,
    summary: dict[str, Any],
    figures_by_id: dict[str, Any],
) -> dict[str, Any]:
    """What the page shows of the traces and weights of one round."""
    panels: dict[str, Any] = {}
    if traces is not None and len(traces):
        lengths = traces["n_tokens"].to_numpy()
        panels["Length"] = figures.trace_lengths(lengths, traces["closed"].to_numpy())
    if weights is not None and len(weights):
        group = np.unique(weights["question_id"], return_inverse=True)[1]
        order = np.argsort(group, kind="stable")
        log_rho = weights["log_rho"].fillna(-np.inf).to_numpy()[order]
        ess = importance.effective_sample_size(log_rho, group[order])
        most = int(np.bincount(group).max())
        panels["Effective sample size"] = figures.effective_sample_size(ess[ess > 0], most)
    if (bound := figures.bounds(summary.get("bounds", []))) is not None:
        panels["Bound as k grows"] = bound
    weighed = figures.accuracy_against_weight(summary.get("accuracy_against_weight", []))
    if weighed is not None:
        figures_by_id[f"{name}-weight"] = weighed
    return {
        "id": name,
        "title": title,
        "shares": content.shares(summary),
        "panels": place(panels, name, figures_by_id),
        "weight_panel": f"{name}-weight" if weighed is not None else None,
        "weight_colours": {bar.name: bar.marker.color for bar in weighed.data} if weighed else {},
        "estimators": content.estimators(summary),
        "counts": content.counts(summary),
        "notes": content.trace_notes(title, summary),
    }


def sections(context: dict[str, Any]) -> list[dict[str, str]]:
    """Entries of the page's navigation: those sections that the page has."""
    listed = [("result", "Result", True)]
    listed += [
        ("pass", "pass@k", context["pass_panels"]),
        ("difficulty", "Difficulty", context["difficulty_panels"]),
        ("training", "Training", context["training_panels"]),
    ]
    listed += [
        (one["id"], re.sub("^Traces of r", "R", one["title"]), True) for one in context["rounds"]
    ]
    listed += [
        ("cost", "Cost", context["ledger"]["rows"]),
        ("examples", "Examples", context["examples"]),
    ]
    return [{"id": name, "title": title} for name, title, there in listed if there]


if __name__ == "__main__":
    command.run(main)
