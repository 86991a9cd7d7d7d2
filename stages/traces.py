"""Sample K thinking traces of every question, from the posterior, which sees a hint, or the prior.

python -m stages.traces --settings S --questions Q --model DIR --shard I/N --out T

Shard I of N holds the questions at positions I, I+N, I+2N, ... of the table.
"""

import argparse
from pathlib import Path
from typing import Any

from stages import prompts
from stages.artifacts import store, tables
from stages.common.seeds import derive_seed
from stages.engines import Request, Sampling
from stages.experiments.settings import StepSettings
from stages.running import command, origin_of
from stages.running.sampling import draw_table
from stages.weighting.leaks import leaks_hint


def main(argv: list[str] | None = None) -> None:
    """Read the questions of the shard, draw their traces, write the table."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions")
    parser.add_argument("--model", type=Path, required=True, help="model that writes the traces")
    parser.add_argument("--shard", type=shard, default=(0, 1), help="I/N; default: all questions")
    parser.add_argument("--out", type=Path, required=True, help="table of traces")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings

    model = command.model_directory(args.model)
    questions = store.read_table(args.questions, tables.QUESTIONS)
    prompter = prompts.Prompter(settings, command.load_tokenizer(model))
    index, count = args.shard
    mine = questions.to_pylist()[index::count]
    hints = {question["question_id"]: prompts.hint_of(question, "answer") for question in mine}
    draw_table(
        tables.TRACES,
        trace_requests(mine, settings, prompter),
        lambda question_id, text: {
            "trace": text,
            "closed": prompter.template.is_closed(text),
            "leaking": leaks_hint(text, hints[question_id]),
        },
        out=args.out,
        origin=origin_of.output("traces", settings, {"questions": args.questions, "model": model}),
        model=model,
        settings=settings,
        machine=args.machine,
        shard=f"{index}/{count}",
    )


def shard(text: str) -> tuple[int, int]:
    """Read `I/N`: shard I of N, counted from 0."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N")
    return int(index), int(count)


def trace_requests(
    questions: list[dict[str, Any]], settings: StepSettings, prompter: prompts.Prompter
) -> list[Request]:
    """One request per trace: K for every question, k varying fastest."""
    how, stop = settings.traces, (prompter.template.end_thought,)
    role: prompts.Role = "prior" if settings.traces_from_prior else "posterior"
    sampling = Sampling(how.temperature, how.top_p, how.top_k, how.max_tokens, stop)
    requests = []
    for question in questions:
        context = prompter.prompt(role, question).ids
        for k in range(how.k):
            key = (question["question_id"], k)
            seed = derive_seed(settings.seed, f"trace-{how.proposal}", settings.round, *key)
            requests.append(Request(key, context, seed, sampling))
    return requests


if __name__ == "__main__":
    command.run(main)
