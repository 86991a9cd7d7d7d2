"""Make the training rows of a model: teacher rows, and rows of selected traces with their weights.

python -m stages.rows --settings S --questions Q --tokenizer DIR
                      [--traces T --weights W [--answers A --verdicts V]] --out R

Without traces only teacher rows are made. `role` says for which model: `initial` and `final` learn
prompt → z + y, the posterior hint prompt → z. Token ids of sampled traces and answers are taken as
they were sampled.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages import prompts
from stages.artifacts import digests, store, tables
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.running import command


def main(argv: list[str] | None = None) -> None:
    """Read the tables, make the rows, write them with their mean response length."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions", optional="traces weights answers verdicts")
    parser.add_argument("--tokenizer", type=Path, required=True, help="directory of the base model")
    parser.add_argument("--out", type=Path, required=True, help="table of rows")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings
    started = time.monotonic()

    questions = store.read_table(args.questions, tables.QUESTIONS).to_pylist()
    tokenizer = command.load_tokenizer(args.tokenizer)
    maker = RowMaker(settings, tokenizer)
    if args.traces is None:
        rows = [maker.teacher(q, 1.0) for q in questions if q["trace"] is not None]
    else:
        if args.weights is None:
            raise UserError("--weights is needed with --traces")
        digests.same_tokenizer(args.traces, args.tokenizer)
        selected = _selected(args.traces, args.weights)
        answers = _first_correct(args.answers, args.verdicts, settings)
        rows = list(final_rows(questions, selected, answers, maker, settings))
    if not rows:
        raise UserError(
            f"no training row for the {settings.role} model: "
            + (
                f"no trace of {args.weights} was selected, and no teacher trace stands in"
                if args.traces
                else f"{args.questions} has no teacher trace"
            )
        )
    table = pa.Table.from_pylist(rows, schema=tables.ROWS.schema)
    made = command.provenance(
        "rows",
        settings,
        [args.questions, args.traces, args.weights, args.answers, args.verdicts],
        seconds=time.monotonic() - started,
        device="cpu",
        tokenizer=digests.tokenizer_digest(args.tokenizer),
        mean_response_tokens=sum(r["n_tokens"] - r["n_prompt_tokens"] for r in rows) / len(rows),
    )
    store.write_table(args.out, tables.ROWS, table, made)


def _selected(traces: Path, weights: Path) -> list[dict[str, Any]]:
    """Selected traces with their row weights, in order of the weights table."""
    weighed = store.read_table(weights, tables.WEIGHTS, ["selected", "row_weight"]).to_pylist()
    chosen = {(w["question_id"], w["k"]): w["row_weight"] for w in weighed if w["selected"]}
    found = {}
    for shard in store.iter_tables(traces, tables.TRACES, ["token_ids", "trace"]):
        for trace in shard.to_pylist():
            key = (trace["question_id"], trace["k"])
            if key in chosen:
                found[key] = {**trace, "row_weight": chosen[key]}
    missing = chosen.keys() - found.keys()
    if missing:
        raise UserError(f"{traces}: selected trace {min(missing)} of {weights} is missing")
    return [found[key] for key in chosen]


def _first_correct(
    answers: Path | None, verdicts: Path | None, settings: StepSettings
) -> dict[tuple[str, int], dict[str, Any]]:
    """The first correct answer of each trace, where answers decide the weights.

    Raises
    ------
    UserError
        A table that it is to be found in is not given, or lacks an answer that was verified.
    """
    if settings.weights.answer != "accuracy" or settings.role == "posterior":
        return {}
    if answers is None or verdicts is None:
        raise UserError(
            "--answers and --verdicts are needed with weights.answer: accuracy: a row ends with "
            "the first correct answer of its trace"
        )
    judged = store.read_table(verdicts, tables.VERDICTS, ["verdict"]).to_pylist()
    first: dict[tuple[str, int], int] = {}
    for v in judged:
        if v["verdict"] == "correct":
            key = (v["question_id"], v["k"])
            first[key] = min(v["m"], first.get(key, v["m"]))
    found = {}
    for shard in store.iter_tables(answers, tables.ANSWERS, ["token_ids", "answer"]):
        for answer in shard.to_pylist():
            key = (answer["question_id"], answer["k"])
            if first.get(key) == answer["m"]:
                found[key] = answer
    missing = first.keys() - found.keys()
    if missing:
        name, k = min(missing)
        raise UserError(
            f"{answers}: answer {first[name, k]} of question_id {name!r}, k {k} is missing, which "
            f"{verdicts} calls correct; give the answers that were verified"
        )
    return found


def final_rows(
    questions: list[dict[str, Any]],
    selected: list[dict[str, Any]],
    answers: dict[tuple[str, int], dict[str, Any]],
    maker: "RowMaker",
    settings: StepSettings,
) -> Iterator[dict[str, Any]]:
    """Teacher rows, then a row of each selected trace.

    A question without a selected trace counts its teacher trace once more: it stands in, by a
    teacher row whose weight is larger by one.
    """
    asked = {question["question_id"]: question for question in questions}
    has_trace = {trace["question_id"] for trace in selected}
    mixed_in = settings.rows.teacher and settings.role == "final"
    stands_in = settings.weights.no_candidate == "teacher"
    for name, question in asked.items():
        if question["trace"] is not None:
            weight = float(mixed_in) + float(stands_in and name not in has_trace)
            if weight > 0:
                yield maker.teacher(question, weight)
    for trace in selected:
        question = asked[trace["question_id"]]
        yield maker.sampled(question, trace, answers.get((trace["question_id"], trace["k"])))


class RowMaker:
    """Makes rows of the `rows` table, of one role, with one tokenizer."""

    def __init__(self, settings: StepSettings, tokenizer: Any) -> None:
        self._settings = settings
        self._prompter = prompts.Prompter(settings, tokenizer)

    def teacher(self, question: dict[str, Any], weight: float) -> dict[str, Any]:
        """Row of a question's teacher trace and solution."""
        z = self._prompter.trace(question["trace"])
        y = self._prompter.solution(question)
        return self._row(question, None, "teacher", z, y, weight)

    def sampled(
        self, question: dict[str, Any], trace: dict[str, Any], answer: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Row of a sampled trace, with a sampled answer or else the reference solution."""
        if answer is None:
            y = self._prompter.solution(question, trace["trace"])
        else:
            y = prompts.Piece(answer["answer"], answer["token_ids"])
        z = prompts.Piece(trace["trace"], trace["token_ids"])
        origin = self._settings.traces.proposal
        return self._row(question, trace["k"], origin, z, y, trace["row_weight"])

    def _row(
        self,
        question: dict[str, Any],
        k: int | None,
        origin: str,
        z: prompts.Piece,
        y: prompts.Piece,
        weight: float,
    ) -> dict[str, Any]:
        if self._settings.role == "posterior":
            prompt = self._prompter.prompt("posterior", question)
            response, response_ids = z
        else:
            prompt = self._prompter.prompt("prior", question)
            response, response_ids = z.text + y.text, z.ids + y.ids
            end = self._prompter.end_turn()
            if response_ids[-len(end.ids) :] != end.ids:
                response, response_ids = response + end.text, response_ids + end.ids
        return {
            "question_id": question["question_id"],
            "k": k,
            "origin": origin,
            "prompt": prompt.text,
            "response": response,
            "token_ids": prompt.ids + response_ids,
            "n_prompt_tokens": len(prompt.ids),
            "n_tokens": len(prompt.ids) + len(response_ids),
            "weight": weight,
        }


if __name__ == "__main__":
    command.run(main)
