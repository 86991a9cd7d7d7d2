r"""Time and memory of the steps weights and rows on tables of a paper's size.

python -m bench.tables [--questions 1040 4160 16710] [--baseline COMMIT] [--baseline-questions 1040]
                       [--folder DIR]

Makes tables of that many questions: 8 traces of about 5,000 tokens each and 8 answers of about 300
after each, in shards of 1,045 questions, teacher traces, scores and verdicts. Runs both steps on
them, and those of an older commit on the smaller ones. Needs 3.5 GB of disk for 16,710 questions.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bench import Line, show
from stages.artifacts import store, tables

ROOT = Path(__file__).parents[1]
K, M = 8, 8
TRACE_TOKENS, ANSWER_TOKENS = 5000, 300
SHARD = 1045
VOCABULARY, WORDS = 8000, 5000
ROWS_AT_ONCE = 512
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "weights": ("weights", {}),
    "rows": ("rows", {}),
    "rows, sampled ones alone": ("rows", {"rows": {"teacher": False}}),
}
GOALS = {"weights": (5, 1000), "rows": (30, 2000)}  # seconds, MB, at 16,710 questions
PAPER = 16_710


class Text(NamedTuple):
    """A long text with its tokens, that traces are cut from."""

    characters: str
    tokens: np.ndarray

    def cut(self, rng: np.random.Generator, lengths: np.ndarray) -> tuple[pa.Array, pa.Array]:
        """Token ids and texts of about these many tokens; the two are not the same text."""
        starts = rng.integers(0, len(self.tokens) // 2, len(lengths))
        ids = [self.tokens[i : i + n] for i, n in zip(starts, lengths, strict=True)]
        offsets = np.cumsum([0, *lengths], dtype=np.int32)
        texts = [self.characters[i : i + 4 * n] for i, n in zip(starts, lengths, strict=True)]
        values = pa.array(np.concatenate(ids))
        return pa.ListArray.from_arrays(pa.array(offsets), values), pa.array(texts)


def main() -> None:
    """Make the tables, run the steps, print a table of results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, nargs="*", default=[1040, 4160, PAPER])
    parser.add_argument("--baseline", help="commit whose steps are run beside these")
    parser.add_argument("--baseline-questions", type=int, nargs="*", default=[1040])
    parser.add_argument("--folder", type=Path, help="keep the tables here, and use those there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        show(measure(args, folder))


def measure(args: argparse.Namespace, folder: Path) -> Iterator[Line]:
    """A line for each step, size and version."""
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer(folder / "tokenizer")
    versions = {"": ROOT}
    if args.baseline:
        versions[args.baseline] = folder / "baseline"
        checkout(args.baseline, versions[args.baseline])
    for questions in sorted(args.questions):
        data = folder / str(questions)
        if not (data / "questions.parquet").exists():
            make_tables(data, questions)
        for version, root in versions.items():
            if version and questions not in args.baseline_questions:
                continue
            for step in STEPS:
                out = data / f"out-{version or 'now'}"
                out.mkdir(exist_ok=True)
                figures = run(step, root, data, out, folder / "tokenizer")
                yield line(step, version, questions, *figures)


def line(step: str, version: str, questions: int, seconds: float, cpu: float, mb: float) -> Line:
    """A line of results; the goals hold at the size of the paper's experiments."""
    goal_seconds, goal_mb = GOALS[STEPS[step][0]]
    at_goal = questions == PAPER and not version
    return Line(
        f"{step}{f' at {version}' if version else ''}, {questions:,} questions",
        f"{seconds:.1f} s ({cpu:.1f} s of CPU), {mb:,.0f} MB",
        f"{goal_seconds} s, {goal_mb:,} MB" if at_goal else "",
        (seconds <= goal_seconds and mb <= goal_mb) if at_goal else None,
    )


def run(
    step: str, root: Path, data: Path, out: Path, tokenizer: Path
) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident MB of a step."""
    flags = {
        "weights": "questions traces prior posterior verdicts",
        "rows": "questions traces weights answers verdicts",
    }
    module, settings = STEPS[step]
    command = [sys.executable, "-m", f"stages.{module}", "--settings", json.dumps(settings)]
    for name in flags[module].split():
        path = data / name if (data / name).is_dir() else data / f"{name}.parquet"
        path = out / "weights.parquet" if name == "weights" else path
        command += [f"--{name}", str(path)]
    if step == "weights":
        command += ["--out", str(out / "weights.parquet"), "--summary", str(out / "weights.json")]
        command += ["--by-question", str(out / "diagnostics.parquet")]
    else:
        command += ["--tokenizer", str(tokenizer), "--out", str(out / "rows.parquet")]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{step} failed:\n{said}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def checkout(commit: str, folder: Path) -> None:
    """The files of a commit."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)


# The tables --------------------------------------------------------------------------------------


def words() -> str:
    """Ten million characters of words whose frequencies fall as in a language."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lengths = rng.integers(2, 9, WORDS)
    vocabulary = np.array(["".join(rng.choice(letters, n)) for n in lengths])
    ranks = np.minimum(rng.zipf(1.2, 2_500_000), WORDS) - 1
    return " ".join(vocabulary[ranks])[: 10**7]


def make_tokenizer(folder: Path) -> None:
    """A byte-pair tokenizer of these words, in Hugging Face format."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if folder.exists():
        return
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([words()[:1_000_000]], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def make_tables(folder: Path, n_questions: int) -> None:
    """All tables that the two steps read."""
    rng = np.random.default_rng(n_questions)
    tokens = np.minimum(rng.zipf(1.2, 10**7), 150_000).astype(np.int32)
    text = Text(words(), tokens)
    ids = np.array([f"question-{i:06d}" for i in range(n_questions)])
    count = -(-n_questions // SHARD)
    for index in range(count):
        make_shard(folder, f"shard-{index:04d}.parquet", ids[index::count], text, rng)
    store.write_table(folder / "questions.parquet", tables.QUESTIONS, questions(ids, text, rng), {})


def questions(ids: np.ndarray, text: Text, rng: np.random.Generator) -> Iterator[pa.Table]:
    """Questions with a teacher trace each."""
    for names in np.array_split(ids, -(-len(ids) // ROWS_AT_ONCE)):
        columns: dict[str, Any] = {
            "question_id": names,
            "answer": [str(i) for i in range(len(names))],
            "answer_kind": ["math"] * len(names),
            "source": ["bench"] * len(names),
        }
        for name, mean in (("question", 60), ("solution", ANSWER_TOKENS), ("trace", TRACE_TOKENS)):
            columns[name] = text.cut(rng, lengths(rng, mean, len(names)))[1]
        yield pa.table(columns)


def make_shard(
    folder: Path, name: str, ids: np.ndarray, text: Text, rng: np.random.Generator
) -> None:
    """A shard of traces, with scores, answers and verdicts."""
    keys = pa.table({"question_id": np.repeat(ids, K), "k": np.tile(np.arange(K), len(ids))})
    n = len(keys)
    n_tokens = lengths(rng, TRACE_TOKENS, n)
    made = {"identity": "bench"}  # as left by the steps that sample, score and verify
    traces = sampled(keys, n_tokens, "trace", text, rng, closed=True, leaking=False)
    store.write_table(folder / "traces" / name, tables.TRACES, traces, made)
    for role in ("prior", "posterior"):
        scores = keys.append_column("n_tokens", pa.array(n_tokens))
        for column, values in (
            ("trace_logprob", -0.5 * n_tokens * rng.uniform(0.9, 1.1, n)),
            ("answer_n_tokens", np.full(n, 100)),
            ("answer_logprob", -100 * rng.uniform(0.1, 1, n)),
        ):
            scores = scores.append_column(column, pa.array(values))
        store.write_table(folder / role / name, tables.SCORES, scores, made)
    repeated = {c: np.repeat(keys[c].to_numpy(), M) for c in keys.column_names}
    answers = pa.table({**repeated, "m": np.tile(np.arange(M), n)})
    n_tokens = lengths(rng, ANSWER_TOKENS, len(answers))
    rows = sampled(answers, n_tokens, "answer", text, rng)
    store.write_table(folder / "answers" / name, tables.ANSWERS, rows, made)
    correct = np.where(rng.random(len(answers)) < 0.5, "correct", "incorrect")
    verdicts = answers.append_column("verdict", pa.array(correct)).append_column(
        "seconds", pa.array(np.zeros(len(answers)))
    )
    store.write_table(folder / "verdicts" / name, tables.VERDICTS, verdicts, made)


def sampled(
    keys: pa.Table,
    n_tokens: np.ndarray,
    text_column: str,
    text: Text,
    rng: np.random.Generator,
    **flags: bool,
) -> Iterator[pa.Table]:
    """Rows of traces or answers."""
    for start in range(0, len(keys), ROWS_AT_ONCE):
        piece = keys.slice(start, ROWS_AT_ONCE)
        counts = n_tokens[start : start + ROWS_AT_ONCE]
        ids, texts = text.cut(rng, counts)
        columns: dict[str, Any] = {
            "seed": np.arange(start, start + len(piece)),
            "token_ids": ids,
            text_column: texts,
            "n_tokens": counts,
            "finish_reason": ["stop"] * len(piece),
            **{name: [value] * len(piece) for name, value in flags.items()},
        }
        for name, values in columns.items():
            piece = piece.append_column(name, pa.array(values))
        yield piece


def lengths(rng: np.random.Generator, mean: float, n: int) -> np.ndarray:
    """Lognormal lengths."""
    return (mean * rng.lognormal(-0.18, 0.6, n)).clip(5, 27_000).astype(np.int32)


if __name__ == "__main__":
    main()
