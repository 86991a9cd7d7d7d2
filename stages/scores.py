"""Score traces under the prior or the posterior: the log-prob of every sampled token.

python -m stages.scores --settings S --questions Q --traces T --model DIR --role prior --out C
python -m stages.scores --settings S --questions Q --traces T --model DIR --role posterior --out C

The prior also scores the reference solution after each closed trace, in the same pass.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages import prompts
from stages.artifacts import digests, store, tables
from stages.artifacts.journal import Journal
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.running import command, origin_of

if TYPE_CHECKING:
    import torch

    from stages.lm.model import LanguageModel

# Rows that are packed together: enough bins' worth of tokens for best fit to fill them.
BINS_PER_WINDOW = 64
ROWS_READ = 256


@dataclass(frozen=True)
class ScoredText:
    """The tokens of one trace: context, trace, and the reference solution (may be empty)."""

    key: tuple[str, int]
    context: Sequence[int]
    trace: Sequence[int]
    answer: Sequence[int]

    @property
    def tokens(self) -> np.ndarray:
        """All token ids in their order."""
        return np.concatenate([self.context, self.trace, self.answer]).astype(np.int32)

    @property
    def n_tokens(self) -> int:
        """Length of `tokens`."""
        return len(self.context) + len(self.trace) + len(self.answer)


def main(argv: list[str] | None = None) -> None:
    """Read questions and traces, score what is not scored yet, write the table."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions traces")
    parser.add_argument("--model", type=Path, required=True, help="model that scores them")
    parser.add_argument("--role", choices=("prior", "posterior"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="table of scores")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings

    model = command.model_directory(args.model)
    digests.same_tokenizer(args.traces, model)
    temperature = scoring_temperature(settings, args.role)
    questions = {q["question_id"]: q for q in read_questions(args.questions)}
    keys = trace_keys(args.traces, questions)
    inputs = {"questions": args.questions, "traces": args.traces, "model": model}
    origin = origin_of.output("scores", settings, inputs, args.role)
    columns = ("n_tokens", "trace_logprob")
    with Journal(args.out, tables.SCORES, origin.recipe, columns) as journal:
        score_missing(journal, keys, questions, args, model, temperature)
        provenance = command.provenance(
            origin,
            settings,
            role=args.role,
            temperature=temperature,
            seconds=journal.seconds,
            device=command.device_name(),
            tokens=sum(journal.column("n_tokens", keys)),
            unscored=journal.column("trace_logprob", keys).count(None),
        )
        journal.finish(keys, provenance)


def scoring_temperature(settings: StepSettings, role: str) -> float:
    """Temperature by which logits are divided: the role's setting, `sampling` resolved.

    Raises
    ------
    UserError
        `sampling` where traces were not drawn from the tempered softmax itself.
    """
    name = f"{role}_temperature"
    temperature = getattr(settings.scores, name)
    drawn = settings.traces
    if temperature != "sampling":
        if temperature <= 0:
            raise UserError(f"scores.{name} is {temperature}; give a number above 0, or sampling")
        return float(temperature)
    if drawn.temperature <= 0 or drawn.top_p < 1 or drawn.top_k > 0:
        raise UserError(
            f"scores.{name}: sampling needs traces drawn with temperature above 0, top_p 1 and "
            f"top_k -1, not {drawn.temperature}, {drawn.top_p} and {drawn.top_k}: log-probs under "
            "a cut-off distribution are not defined for other models' tokens"
        )
    return drawn.temperature


def read_questions(path: Path) -> list[dict[str, Any]]:
    """The questions' columns that prompts need."""
    columns = ["question", "answer", "answer_kind", "solution"]
    return store.read_table(path, tables.QUESTIONS, columns).to_pylist()


def trace_keys(traces: Path, questions: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Keys of all traces in the order in which they are stored."""
    keys = [tuple(row.values()) for row in store.read_table(traces, tables.TRACES, []).to_pylist()]
    for name, k in keys:
        if name not in questions:
            raise UserError(
                f"{traces}: trace {k} of question_id {name!r} has no question in the table of "
                "questions; give the table that the traces were made from"
            )
    return keys


def score_missing(
    journal: Journal,
    keys: list[tuple[str, int]],
    questions: Mapping[str, Mapping[str, Any]],
    args: argparse.Namespace,
    directory: Path,
    temperature: float,
) -> None:
    """Score every trace that the journal lacks; load no model when there is none."""
    done = sum(key in journal for key in keys)
    progress = command.Progress("traces", len(keys), done)
    if done == len(keys):
        return
    import torch

    from stages.lm.model import load, use_threads

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    how = args.settings.scores
    model = load(directory, getattr(torch, how.dtype), device)
    use_threads(model, args.machine.threads)
    texts = scored_texts(journal, questions, args, command.load_tokenizer(directory))
    for window in windows(texts, BINS_PER_WINDOW * args.machine.tokens_per_batch):
        short = [text for text in window if len(text.trace) <= how.max_tokens]
        for text in window:
            if len(text.trace) > how.max_tokens:
                journal.append(unscored_row(text))
                progress.add()
        for text, logprobs in score(
            model, short, args.machine.tokens_per_batch, temperature, device
        ):
            journal.append(score_row(text, logprobs, how.keep_token_logprobs))
            progress.add(tokens=text.n_tokens)


def scored_texts(
    journal: Journal,
    questions: Mapping[str, Mapping[str, Any]],
    args: argparse.Namespace,
    tokenizer: Any,
) -> Iterator[ScoredText]:
    """What is to be scored, shard by shard: prompt tokens, the sampled tokens, solution tokens."""
    settings: StepSettings = args.settings
    prompter = prompts.Prompter(settings, tokenizer)
    contexts: dict[str, list[int]] = {}
    columns = ["token_ids", "trace", "closed"]
    for table in store.iter_batches(args.traces, tables.TRACES, columns, ROWS_READ):
        for trace in table.to_pylist():
            key = (trace["question_id"], trace["k"])
            if key in journal:
                continue
            question = questions[key[0]]
            if key[0] not in contexts:
                contexts = {key[0]: prompter.prompt(args.role, question).ids}
            answer: list[int] = []
            if args.role == "prior" and trace["closed"]:
                answer = prompter.solution(question, trace["trace"]).ids
            yield ScoredText(key, contexts[key[0]], trace["token_ids"], answer)


def windows(texts: Iterator[ScoredText], n_tokens: int) -> Iterator[list[ScoredText]]:
    """Group texts until they hold `n_tokens`."""
    window: list[ScoredText] = []
    held = 0
    for text in texts:
        window.append(text)
        held += text.n_tokens
        if held >= n_tokens:
            yield window
            window, held = [], 0
    if window:
        yield window


def score(
    model: "LanguageModel",
    texts: Sequence[ScoredText],
    tokens_per_batch: int,
    temperature: float,
    device: "torch.device",
) -> Iterator[tuple[ScoredText, np.ndarray]]:
    """Log-probs of every token after the context of each text, in packed bins.

    Yields
    ------
    text, float32 array [trace and answer tokens]
        In the order in which bins are done, not in that of `texts`.
    """
    import torch

    from stages.lm.model import make_bin
    from stages.lm.packing import pack

    lengths = np.array([text.n_tokens for text in texts], dtype=np.int64)
    for members in pack(lengths, tokens_per_batch):
        chosen = [texts[i] for i in members]
        bin_ = make_bin([t.tokens for t in chosen], [len(t.context) for t in chosen], device)
        with torch.no_grad():
            logprobs = model(bin_, temperature=temperature).cpu().numpy()
        yield from zip(chosen, np.split(logprobs, np.cumsum(bin_.counts)[:-1]), strict=True)


def score_row(text: ScoredText, logprobs: np.ndarray, keep_tokens: bool) -> dict[str, Any]:
    """A row of the `scores` table; sums are in float64."""
    n = len(text.trace)
    trace, answer = logprobs[:n].astype(np.float64), logprobs[n:].astype(np.float64)
    return {
        **unscored_row(text),
        "trace_logprob": float(trace.sum()),
        "answer_n_tokens": len(answer) if text.answer else None,
        "answer_logprob": float(answer.sum()) if text.answer else None,
        "trace_token_logprobs": trace.tolist() if keep_tokens else None,
    }


def unscored_row(text: ScoredText) -> dict[str, Any]:
    """The row of a trace that is too long to be scored."""
    return {
        **dict(zip(tables.SCORES.key, text.key, strict=True)),
        "n_tokens": len(text.trace),
        "trace_logprob": None,
        "answer_n_tokens": None,
        "answer_logprob": None,
        "trace_token_logprobs": None,
    }


if __name__ == "__main__":
    command.run(main)
