"""Make the tables of questions: for training, and those held out for evaluation.

python -m stages.questions --settings S --out questions.parquet [--held-out heldout.parquet]

They are made (column additions), read from a local JSONL or Parquet file, or fetched from the hub.
A file holds either the columns of the `questions` table or the hub's `conversations` rows.
"""

import json
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages import prompts
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.common.seeds import derive_seed
from stages.data.addition import additions
from stages.experiments.settings import Questions
from stages.running import command
from stages.verifiers.text import last_box

KINDS = ("math", "choice", "code", "none")


def main(argv: list[str] | None = None) -> None:
    """Get the questions, check them, set some aside, write the tables."""
    parser = command.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="table of training questions")
    parser.add_argument("--held-out", type=Path, help="table of held-out questions")
    args = parser.parse_args(argv)
    source, seed = args.settings.questions, args.settings.seed
    started = time.monotonic()

    if source.addition is not None:
        training, held_out = additions(source.addition, derive_seed(seed, "questions"))
        revision = None
    else:
        rows, revision = load(source)
        training, held_out = set_aside(rows, source, seed)
    if not training:
        raise UserError("the set of training questions is empty; see the settings `questions`")
    made = command.provenance(
        "questions",
        args.settings,
        [Path(source.file)] if source.file else [],
        seconds=time.monotonic() - started,
        device="cpu",
        dataset_revision=revision,
    )
    for path, rows in ((args.out, training), (args.held_out, held_out)):
        if path is not None:
            table = pa.Table.from_pylist(rows, schema=tables.QUESTIONS.schema)
            store.write_table(path, tables.QUESTIONS, table, made)


def load(source: Questions) -> tuple[list[dict[str, Any]], str | None]:
    """Rows of the `questions` table from a file or a hub dataset, and the dataset's commit."""
    if source.file is not None:
        files, revision, name = [Path(source.file)], None, Path(source.file).stem
    elif source.dataset is not None:
        files, revision = fetch(source, source.dataset)
        name = source.dataset
    else:
        raise UserError("settings `questions`: give one of addition, file and dataset")
    rows: list[dict[str, Any]] = []
    for file in files:
        before = len(rows)  # the files of a dataset are numbered as one
        for number, raw in enumerate(read_rows(file), start=1):
            unnamed = f"{name}-{before + number:06d}"
            rows.append(as_question(raw, f"{file}: row {number}", unnamed, name))
    check(rows, name)
    return rows, revision


def fetch(source: Questions, dataset: str) -> tuple[list[Path], str | None]:
    """Download the data files of a hub dataset's split into its cache; give files and commit."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        info = HfApi().dataset_info(dataset, revision=source.revision)
        names = [f.rfilename for f in info.siblings or [] if f.rfilename.endswith(SUFFIXES)]
        wanted = [name for name in names if source.split in name]
        if source.split == "train" and len(names) == 1:
            wanted = names  # the one file of a dataset need not say so
        files = [
            hf_hub_download(dataset, name, repo_type="dataset", revision=info.sha)
            for name in sorted(wanted)
        ]
    except (HfHubHTTPError, RepositoryNotFoundError, OSError) as error:
        raise UserError(
            f"dataset {source.dataset}: not to be had from the hub ({type(error).__name__}); check "
            "questions.dataset and the network, or download it and set questions.file"
        ) from None
    if not files:
        raise UserError(
            f"dataset {source.dataset}: holds no .parquet, .jsonl or .json file whose name has "
            f"{source.split!r} in it (questions.split); its files are {', '.join(names) or 'none'}"
        )
    return [Path(file) for file in files], info.sha


SUFFIXES = (".parquet", ".jsonl", ".json")


def read_rows(file: Path) -> list[Any]:
    """Rows of a JSONL, JSON or Parquet file."""
    try:
        if file.suffix == ".parquet":
            return pq.read_table(file).to_pylist()
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            return json.loads(text)
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file (setting questions.file)") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        kind = "Parquet" if file.suffix == ".parquet" else "JSON in UTF-8"
        raise UserError(f"{file}: cannot be read as {kind}: {error}") from None
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # texts may hold other line breaks
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{file}: line {number} is no JSON: {error}") from None
    return rows


def as_question(raw: Any, where: str, unnamed: str, name: str) -> dict[str, Any]:
    """A row of the `questions` table from one of ours or from a `conversations` row.

    Parameters
    ----------
    raw : Any
        What the file holds.
    where : str
        File and row, for messages.
    unnamed : str
        The question's id if it has none of its own.
    name : str
        What the set of questions is called.
    """
    if not isinstance(raw, dict):
        raise UserError(f"{where}: a row is an object of columns and values, not {raw!r:.40}")
    if raw.get("conversations") is not None:
        return _from_conversation(raw, where, unnamed, name)
    known = [column.name for column in tables.QUESTIONS.columns]
    strange = [column for column in raw if column not in known]
    if strange or "question" not in raw:
        wrong = f"column {strange[0]!r} is not known" if strange else "column 'question' is missing"
        raise UserError(
            f"{where}: {wrong}; a row has `conversations`, or of {', '.join(known)} at least "
            "question and one of answer and solution"
        )
    row = {column: raw.get(column) for column in known}
    row["question_id"] = unnamed if raw.get("question_id") is None else str(raw["question_id"])
    row["source"] = raw.get("source") or name
    row["answer"] = None if raw.get("answer") is None else str(raw["answer"])
    if raw.get("tests") is not None and not isinstance(raw["tests"], str):
        row["tests"] = json.dumps(raw["tests"])
    row["answer_kind"] = raw.get("answer_kind") or _kind_of(row)
    return _checked(row, where)


def _kind_of(row: dict[str, Any]) -> str:
    if row["tests"] is not None:
        return "code"
    if row["answer"] is None:
        return "none"
    return "choice" if row["options"] is not None else "math"


def _from_conversation(
    raw: dict[str, Any], where: str, question_id: str, name: str
) -> dict[str, Any]:
    """A hub row: the user's turn asks, the assistant's holds thought and solution with markers."""
    try:
        turns = {turn["from"]: turn["value"] for turn in raw["conversations"]}
    except (TypeError, KeyError):
        raise UserError(
            f"{where}: conversations are a list of turns, each from and value"
        ) from None
    if not all(isinstance(turns.get(who), str) for who in ("user", "assistant")):
        raise UserError(f"{where}: conversations need a turn from user and one from assistant")
    trace, solution = prompts.split_response(turns["assistant"])
    if solution is None:
        raise UserError(
            f"{where}: the assistant's turn has no {prompts.END_THOUGHT}; its thought and its "
            "solution cannot be told apart"
        )
    answer = last_box(solution)
    row = {
        "question_id": question_id,
        "question": turns["user"],
        "answer": answer,
        "answer_kind": "math" if answer is not None else "none",
        "solution": solution,
        "trace": trace,
        "source": name,
        "options": None,
        "tests": None,
    }
    return _checked(row, where)


def _checked(row: dict[str, Any], where: str) -> dict[str, Any]:
    for column in ("question", "solution", "trace", "source"):
        if not isinstance(row[column], str) and (row[column] is not None or column == "question"):
            raise UserError(f"{where}: {column} must be a text, not {row[column]!r:.40}")
    options = row["options"]
    if options is not None and not (
        isinstance(options, list) and all(isinstance(text, str) for text in options)
    ):
        raise UserError(f"{where}: options must be a list of texts, not {options!r:.40}")
    kind = row["answer_kind"]
    if kind not in KINDS:
        raise UserError(f"{where}: answer_kind {kind!r} is none of {', '.join(KINDS)}")
    if row["answer"] is None and row["solution"] is None:
        raise UserError(f"{where}: neither answer nor solution is there; the hint is made of one")
    if kind in ("math", "choice") and row["answer"] is None:
        raise UserError(f"{where}: answer_kind is {kind}, but there is no answer")
    if kind == "code" and row["tests"] is None:
        raise UserError(f"{where}: answer_kind is code, but there are no tests")
    return row


def check(rows: list[dict[str, Any]], name: str) -> None:
    """Refuse an empty set and a doubled question_id."""
    if not rows:
        raise UserError(f"{name}: holds no question")
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        first = seen.setdefault(row["question_id"], number)
        if first != number:
            raise UserError(
                f"{name}: question_id {row['question_id']!r} stands in rows {first} and {number}; "
                "rename or remove one"
            )


def set_aside(
    rows: list[dict[str, Any]], source: Questions, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Draw `limit` of the rows, and of those `held_out` for evaluation; both keep the order."""
    order = list(range(len(rows)))
    random.Random(derive_seed(seed, "questions")).shuffle(order)
    chosen = order[: source.limit]
    if source.held_out >= len(chosen):
        raise UserError(
            f"questions.held_out is {source.held_out}, but there are {len(chosen)} questions in all"
        )
    held_out = set(chosen[: source.held_out])
    training = set(chosen) - held_out
    return [rows[i] for i in sorted(training)], [rows[i] for i in sorted(held_out)]


if __name__ == "__main__":
    command.run(main)
