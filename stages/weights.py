"""Weigh every trace: log ρ from scores and verdicts, its normalization by question, the selection.

python -m stages.weights --settings S --questions Q --traces T [--prior C] [--posterior C]
                         [--verdicts V] --out W --summary J [--by-question D]

Scores and verdicts are optional where the variants chosen in `weights` do not need them (see
stages/weighting/estimators.py). `--by-question` writes the summary's figures for each question.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stages import prompts
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.running import command, origin_of
from stages.weighting.diagnostics import by_question, summarise
from stages.weighting.estimators import Method
from stages.weighting.leaks import leaks_hint
from stages.weighting.weigh import weigh

KEY = ["question_id", "k"]
TEXTS_AT_ONCE = 512

INPUTS = ("questions", "traces", "prior", "posterior", "verdicts")


def main(argv: list[str] | None = None) -> None:
    """Read and join the tables, weigh, write the weights and their summary."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions traces", optional="prior posterior verdicts")
    parser.add_argument("--out", type=Path, required=True, help="table of weights")
    parser.add_argument("--summary", type=Path, required=True, help="JSON of counts and figures")
    parser.add_argument("--by-question", type=Path, help="table of figures by question")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings
    started = time.monotonic()

    questions = read_questions(args.questions)
    verifiable = bool((questions["answer_kind"] != "none").all())
    weighed = weigh(questions, join(args, settings, verifiable), settings)
    figures = by_question(weighed, settings)

    inputs = {name: getattr(args, name) for name in INPUTS}
    provenance = command.provenance(
        origin_of.output("weights", settings, inputs),
        settings,
        seconds=time.monotonic() - started,
        device="cpu",
    )
    for path, table, frame in (
        (args.out, tables.WEIGHTS, weighed[list(tables.WEIGHTS.schema.names)]),
        (args.by_question, tables.DIAGNOSTICS, figures),
    ):
        if path is not None:
            data = pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False)
            store.write_table(path, table, data, provenance)
    store.write_json(args.summary, summarise(questions, weighed, figures, settings))


def read_questions(path: Path) -> pd.DataFrame:
    """Columns question_id, answer_kind and has_trace: whether there is a teacher trace."""
    questions = store.read_table(path, tables.QUESTIONS, ["answer_kind"]).to_pandas()
    batches = store.iter_batches(path, tables.QUESTIONS, ["trace"], TEXTS_AT_ONCE)
    has_trace = [pc.is_valid(batch["trace"]).to_numpy() for batch in batches]
    return questions.assign(has_trace=np.concatenate([*has_trace, np.zeros(0, bool)]))


def join(args: argparse.Namespace, settings: StepSettings, verifiable: bool) -> pd.DataFrame:
    """One row per trace with its scores and verdicts, joined by key; no text and no tokens.

    `verifiable` says whether all questions are. `weights.k` and `weights.m` limit what is read to
    the first traces and answers.

    Raises
    ------
    UserError
        A table that the settings need is not given, or the keys of two tables differ.
    """
    check_given(args, settings, verifiable)
    traces = store.read_table(args.traces, tables.TRACES, ["n_tokens", "closed", "leaking"])
    frame = traces.to_pandas()
    if frame["leaking"].isna().any():
        frame["leaking"] = leaking(args.traces, args.questions)
    frame["leaking"] = frame["leaking"].astype(bool)
    for role in ("prior", "posterior"):
        frame = with_scores(frame, role, getattr(args, role), args.traces)
    frame = with_verdicts(frame, args.verdicts, settings.weights.m)
    k = settings.weights.k
    return frame if k is None else frame[frame["k"] < k].reset_index(drop=True)


def check_given(args: argparse.Namespace, settings: StepSettings, verifiable: bool) -> None:
    """Refuse to weigh without a table that the chosen variants are computed from."""
    how = settings.weights
    for table in sorted(Method.of(settings).needs(verifiable)):
        if getattr(args, table) is None:
            raise UserError(
                f"--{table} is needed with weights.ratio: {how.ratio}, weights.answer: "
                f"{how.answer}, weights.normalize: {how.normalize}"
                + ("" if verifiable else " and questions of answer_kind none")
            )


def leaking(traces: Path, questions: Path) -> np.ndarray:
    """Whether each trace leaks its hint, from its text: for tables without the column `leaking`."""
    hints = hints_of(questions)
    leaks: list[bool] = []
    for batch in store.iter_batches(traces, tables.TRACES, ["trace"], TEXTS_AT_ONCE):
        names = batch["question_id"].to_pylist()
        texts = (text.as_py() for text in batch["trace"])
        leaks += [leaks_hint(t, hints.get(n, "")) for n, t in zip(names, texts, strict=True)]
    return np.array(leaks, bool)


def hints_of(questions: Path) -> Mapping[str, str]:
    """The answer of each question, or its solution where it has none."""
    columns = ["answer", "answer_kind", "solution"]
    rows = store.read_table(questions, tables.QUESTIONS, columns).to_pylist()
    return {row["question_id"]: prompts.hint_of(row, "answer") for row in rows}


def with_scores(traces: pd.DataFrame, role: str, path: Path | None, origin: Path) -> pd.DataFrame:
    """Add the scores of a model as columns `<role>_...`; all NaN where no table is given."""
    columns = ["trace_logprob", "answer_logprob", "answer_n_tokens"]
    names = {column: f"{role}_{column}" for column in columns}
    if path is None:
        return traces.assign(**dict.fromkeys(names.values(), np.nan))
    scores = store.read_table(path, tables.SCORES, [*columns, "n_tokens"]).to_pandas()
    scores = scores.rename(columns={**names, "n_tokens": "scored_tokens"})
    _same_keys(traces, scores, path, origin)
    joined = traces.merge(scores, on=KEY)
    other = joined[joined["n_tokens"] != joined["scored_tokens"]]
    if len(other):
        row = other.iloc[0]
        raise UserError(
            f"{path}: question_id {row['question_id']!r}, k {row['k']} has {row['scored_tokens']} "
            f"tokens, but {row['n_tokens']} in {origin}; run the step scores again"
        )
    return joined.drop(columns="scored_tokens")


def _same_keys(traces: pd.DataFrame, scores: pd.DataFrame, path: Path, origin: Path) -> None:
    for present, other, where in ((traces, scores, path), (scores, traces, origin)):
        missing = _not_in(present, other)
        if len(missing):
            row = missing.iloc[0]
            raise UserError(
                f"{where}: {len(missing)} of the traces are missing, first question_id "
                f"{row['question_id']!r}, k {row['k']}; run its step again on the same traces"
            )


def _not_in(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """Rows of `left` whose key is not in `right`."""
    marked = left.merge(right[KEY], on=KEY, how="left", indicator=True)
    return marked[marked["_merge"] == "left_only"]


def with_verdicts(traces: pd.DataFrame, path: Path | None, m: int | None) -> pd.DataFrame:
    """Add accuracy, first_correct, n_verdicts and n_errors, over the first `m` answers of a trace.

    All are NaN where no table is given; accuracy also for a trace without answers, and
    first_correct (its smallest m) for one without a correct answer.
    """
    columns = ["accuracy", "first_correct", "n_verdicts", "n_errors"]
    if path is None:
        return traces.assign(**dict.fromkeys(columns, np.nan))
    verdicts = store.read_table(path, tables.VERDICTS, ["verdict"])
    if m is not None:
        verdicts = verdicts.filter(pc.less(verdicts["m"], m))
    correct = pc.equal(verdicts["verdict"], "correct")
    error = pc.equal(verdicts["verdict"], "error")
    nothing = pa.scalar(None, verdicts["m"].type)
    counts = (
        verdicts.drop(["verdict"])
        .append_column("n_correct", correct.cast(pa.int32()))
        .append_column("n_errors", error.cast(pa.int32()))
        .append_column("first_correct", pc.if_else(correct, verdicts["m"], nothing))
        .group_by(KEY)
        .aggregate(
            [("n_correct", "sum"), ("n_errors", "sum"), ("first_correct", "min"), ("m", "count")]
        )
        .rename_columns([*KEY, "n_correct", "n_errors", "first_correct", "n_verdicts"])
        .to_pandas()
    )
    strays = _not_in(counts, traces)
    if len(strays):
        row = strays.iloc[0]
        raise UserError(
            f"{path}: question_id {row['question_id']!r}, k {row['k']} is not in the table of "
            "traces; give the traces that were answered"
        )
    counts["accuracy"] = counts["n_correct"] / counts["n_verdicts"]
    joined = traces.merge(counts[[*KEY, *columns]], on=KEY, how="left")
    return joined.fillna({"n_errors": 0, "n_verdicts": 0})


if __name__ == "__main__":
    command.run(main)
