"""Weigh every trace: log ρ from the scores and the verdicts, ρ̃ by question, and which are selected.

python -m stages.weights --settings S --questions Q --traces T [--prior C] [--posterior C]
                         [--verdicts V] --out W --summary J [--by-question D]

The scores may be left out where no setting reads them (`weights.ratio: none`, or traces of the
prior), and the verdicts where `weights.answer` is not `accuracy`. The summary's figures can be had
for each question, too.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.common.seeds import derive_seed
from stages.experiments.settings import StepSettings
from stages.experiments.settings import Weights as WeightsSettings
from stages.running import command
from stages.weighting import importance
from stages.weighting.diagnostics import by_question, summarise


def main(argv: list[str] | None = None) -> None:
    """Read and join the tables, weigh, write the weights and their summary."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions traces", optional="prior posterior verdicts")
    parser.add_argument("--out", type=Path, required=True, help="table of weights")
    parser.add_argument("--summary", type=Path, required=True, help="JSON of counts and figures")
    parser.add_argument("--by-question", type=Path, help="table of figures, by question")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings
    started = time.monotonic()

    questions = store.read_table(args.questions, tables.QUESTIONS).to_pandas()
    traces = join(args, settings, verifiable=(questions["answer_kind"] != "none").all())
    weighed = weigh(questions, traces, settings)
    figures = by_question(questions, weighed, settings)

    made = command.provenance(
        "weights",
        settings,
        [args.questions, args.traces, args.prior, args.posterior, args.verdicts],
        seconds=time.monotonic() - started,
        device="cpu",
    )
    for path, table, frame in (
        (args.out, tables.WEIGHTS, weighed[list(tables.WEIGHTS.schema.names)]),
        (args.by_question, tables.DIAGNOSTICS, figures),
    ):
        if path is not None:
            data = pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False)
            store.write_table(path, table, data, made)
    store.write_json(args.summary, summarise(questions, weighed, figures, settings))


def join(args: Any, settings: StepSettings, verifiable: bool) -> pd.DataFrame:
    """One row a trace with its scores and verdicts, joined by key.

    `verifiable` says whether all questions are: others are weighed by likelihood.

    Raises
    ------
    UserError
        A table that the settings need is not given, or the keys of two tables differ.
    """
    columns = ["trace", "n_tokens", "closed"]
    traces = store.read_table(args.traces, tables.TRACES, columns).to_pandas()
    how = settings.weights
    ratio = "none" if settings.traces.proposal == "prior" else how.ratio
    needed = {
        "--prior": ratio != "none"
        or "likelihood" in how.answer
        or (how.answer == "accuracy" and not verifiable),
        "--posterior": ratio != "none",
        "--verdicts": how.answer == "accuracy" or how.normalize == "grpo",
    }
    given = {"--prior": args.prior, "--posterior": args.posterior, "--verdicts": args.verdicts}
    for flag, path in given.items():
        if needed[flag] and path is None:
            raise UserError(
                f"{flag} is needed with weights.ratio: {how.ratio}, weights.answer: {how.answer}, "
                f"weights.normalize: {how.normalize}"
                + ("" if verifiable else " and questions of answer_kind none")
            )
    scored = ["trace_logprob", "answer_logprob", "answer_n_tokens", "n_tokens"]
    for role in ("prior", "posterior"):
        path = given[f"--{role}"]
        if path is None:
            for column in scored[:3]:
                traces[f"{role}_{column}"] = np.nan
            continue
        scores = store.read_table(path, tables.SCORES, scored).to_pandas()
        _same_keys(traces, scores, args.traces, path)
        traces = traces.merge(
            scores.rename(columns={c: f"{role}_{c}" for c in scored}), on=["question_id", "k"]
        )
        _same_lengths(traces, role, args.traces, path)
    return _with_accuracy(traces, args.verdicts)


def _same_keys(left: pd.DataFrame, right: pd.DataFrame, left_path: Path, right_path: Path) -> None:
    ours = pd.MultiIndex.from_frame(left[["question_id", "k"]])
    theirs = pd.MultiIndex.from_frame(right[["question_id", "k"]])
    for present, absent, path in ((ours, theirs, right_path), (theirs, ours, left_path)):
        missing = present.difference(absent)
        if len(missing):
            raise UserError(
                f"{path}: {len(missing)} of the traces are missing, first question_id "
                f"{missing[0][0]!r}, k {missing[0][1]}; make it again from the same traces"
            )


def _same_lengths(traces: pd.DataFrame, role: str, left: Path, right: Path) -> None:
    other = traces[traces["n_tokens"] != traces[f"{role}_n_tokens"]]
    if len(other):
        row = other.iloc[0]
        raise UserError(
            f"{right}: the trace of question_id {row['question_id']!r}, k {row['k']} has "
            f"{row[f'{role}_n_tokens']} tokens, in {left} it has {row['n_tokens']}; score it again"
        )


def _with_accuracy(traces: pd.DataFrame, path: Path | None) -> pd.DataFrame:
    """Add accuracy, number of verdicts and of verifier errors; all NaN where no table is given."""
    key = ["question_id", "k"]
    if path is None:
        return traces.assign(accuracy=np.nan, n_verdicts=np.nan, n_errors=np.nan)
    verdicts = store.read_table(path, tables.VERDICTS, ["verdict"]).to_pandas()
    strange = verdicts.merge(traces[key], on=key, how="left", indicator=True)
    strange = strange[strange["_merge"] == "left_only"]
    if len(strange):
        row = strange.iloc[0]
        raise UserError(
            f"{path}: question_id {row['question_id']!r}, k {row['k']} is no trace of this table"
        )
    counted = (
        verdicts.assign(
            accuracy=verdicts["verdict"] == "correct", n_errors=verdicts["verdict"] == "error"
        )
        .groupby(key)
        .agg(accuracy=("accuracy", "mean"), n_errors=("n_errors", "sum"), n_verdicts=("m", "size"))
    )
    return traces.merge(counted, on=key, how="left").fillna({"n_errors": 0, "n_verdicts": 0})


def weigh(questions: pd.DataFrame, traces: pd.DataFrame, settings: StepSettings) -> pd.DataFrame:
    """Columns of the `weights` table for joined traces, beside the columns that they came with.

    Parameters
    ----------
    questions : DataFrame
        The `questions` table.
    traces : DataFrame
        As made by `join`.
    settings : StepSettings
        Sections `traces` and `weights`, and `seed` and `round`.

    Returns
    -------
    DataFrame
        In order of the questions, then of k.
    """
    how = settings.weights
    order = {name: position for position, name in enumerate(questions["question_id"])}
    position = traces["question_id"].map(order)
    if position.isna().any():
        name = traces["question_id"][position.isna()].iloc[0]
        raise UserError(f"a trace's question_id {name!r} is not in the table of questions")
    done = traces.assign(position=position).sort_values(["position", "k"], ignore_index=True)
    group = np.unique(done["position"], return_inverse=True)[1]
    kind = questions.set_index("question_id")["answer_kind"]
    done["unverifiable"] = done["question_id"].map(kind) == "none"
    done["fallback"] = done["unverifiable"] & (how.answer == "accuracy")
    _check_verdicts(done)

    done["log_ratio"] = _log_ratio(done, settings)
    done["log_answer"] = _log_answer(done, how)
    done["excluded"] = _excluded(done, how)
    done["candidate"] = done["excluded"].isna()
    log_rho = (done["log_ratio"] + done["log_answer"]).to_numpy()
    done["log_rho"] = np.where(done["candidate"], log_rho, np.nan)
    counted = np.where(done["candidate"], log_rho, -np.inf)
    names = done["question_id"].drop_duplicates()
    uniform = np.array([_uniform(settings, name) for name in names])
    try:
        done["weight"] = importance.normalized(
            how.normalize, counted, group, done["accuracy"].fillna(0.0).to_numpy()
        )
    except OverflowError:
        raise UserError(
            f"weights overflow with weights.ratio: {how.ratio} and weights.normalize: "
            f"{how.normalize}; set weights.normalize: question or weights.ratio: geometric_mean"
        ) from None
    done["row_weight"] = importance.select(
        how.select, done["weight"].to_numpy(), counted, group, uniform
    )
    done["selected"] = done["row_weight"] > 0
    return done


def _check_verdicts(traces: pd.DataFrame) -> None:
    """Refuse a table of verdicts that passes over an answer which was to be sampled.

    All closed traces that can be verified have as many answers: M.
    """
    if traces["n_verdicts"].isna().all():  # no table was given
        return
    m = max(1, traces["n_verdicts"].max())
    missing = traces[traces["closed"] & ~traces["unverifiable"] & (traces["n_verdicts"] < m)]
    if len(missing):
        row = missing.iloc[0]
        raise UserError(
            f"the verdicts on question_id {row['question_id']!r}, k {row['k']} are "
            f"{row['n_verdicts']:.0f} of {m:.0f}, and so with {len(missing) - 1} more closed "
            "traces; make answers and verdicts again"
        )


def _log_ratio(traces: pd.DataFrame, settings: StepSettings) -> np.ndarray:
    kind = "none" if settings.traces.proposal == "prior" else settings.weights.ratio
    prior, posterior = traces["prior_trace_logprob"], traces["posterior_trace_logprob"]
    n_tokens = traces["n_tokens"].clip(lower=1)  # an empty trace is open, and no candidate
    return importance.log_ratio(kind, prior.to_numpy(), posterior.to_numpy(), n_tokens.to_numpy())


def _log_answer(traces: pd.DataFrame, how: WeightsSettings) -> np.ndarray:
    def term(kind: str) -> np.ndarray:
        return importance.log_answer(
            kind,
            traces["accuracy"].fillna(0.0).to_numpy(),
            traces["prior_answer_logprob"].to_numpy(),
            traces["prior_answer_n_tokens"].to_numpy(),
        )

    if not traces["fallback"].any():
        return term(how.answer)
    return np.where(traces["fallback"], term("geometric_likelihood"), term(how.answer))


def _excluded(traces: pd.DataFrame, how: WeightsSettings) -> pd.Series:
    """Why each trace is no candidate, or null; the first reason that fits."""
    # an open trace has no answer, so that it can only be trained on where no answer term is taken
    open_ = ~traces["closed"] & (how.require_closed | traces["log_answer"].isna())
    too_long = traces["n_tokens"] >= how.max_trace_tokens
    unscored = traces["log_ratio"].isna() | traces["log_answer"].isna()
    reason = np.select([too_long, open_, unscored], ["too_long", "open", "unscored"], default="")
    return pd.Series(reason, index=traces.index, dtype=object).where(reason != "", None)


def _uniform(settings: StepSettings, question_id: str) -> float:
    seed = derive_seed(settings.seed, "resample", settings.round, question_id)
    return seed / 2**63


if __name__ == "__main__":
    command.run(main)
