"""Sample M answers after every closed trace, from the prior: y ~ π_θ0(· | x, z).

python -m stages.answers --settings S --questions Q --traces T --model DIR --out A

The context is the question's prompt and the trace's own tokens; the hint is not in it.
"""

from pathlib import Path
from typing import Any

from stages import prompts
from stages.artifacts import digests, store, tables
from stages.common.errors import UserError
from stages.common.seeds import derive_seed
from stages.engines import Request, Sampling
from stages.experiments.settings import StepSettings
from stages.running import command, origin_of
from stages.running.sampling import draw_table


def main(argv: list[str] | None = None) -> None:
    """Read the traces, draw their answers, write the table."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions traces")
    parser.add_argument("--model", type=Path, required=True, help="model that answers: the prior")
    parser.add_argument("--out", type=Path, required=True, help="table of answers")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings

    model = command.model_directory(args.model)
    digests.same_tokenizer(args.traces, model)
    questions = store.read_table(args.questions, tables.QUESTIONS, ["question", "answer_kind"])
    traces = store.read_table(args.traces, tables.TRACES, ["token_ids", "closed"])
    inputs = {"questions": args.questions, "traces": args.traces, "model": model}
    prompter = prompts.Prompter(settings, command.load_tokenizer(model))
    draw_table(
        tables.ANSWERS,
        answer_requests(questions, traces, settings, prompter),
        lambda _, text: {"answer": text},
        out=args.out,
        origin=origin_of.output("answers", settings, inputs),
        model=model,
        settings=settings,
        machine=args.machine,
    )


def answer_requests(
    questions: Any, traces: Any, settings: StepSettings, prompter: prompts.Prompter
) -> list[Request]:
    """One request an answer: M of every closed trace, m varying fastest.

    Questions that no verifier can judge (`answer_kind: none`) are passed over.

    Raises
    ------
    UserError
        A trace's question is not in the table of questions.
    """
    how, proposal = settings.answers, settings.traces.proposal
    stop = (prompter.template.end_solution,)
    sampling = Sampling(how.temperature, how.top_p, how.top_k, how.max_tokens, stop)
    by_id = {question["question_id"]: question for question in questions.to_pylist()}
    contexts: dict[str, list[int]] = {}
    requests = []
    for trace in traces.to_pylist():
        name = trace["question_id"]
        if name not in by_id:
            raise UserError(f"a trace's question_id {name!r} is not in the table of questions")
        if not trace["closed"] or by_id[name]["answer_kind"] == "none":
            continue
        if name not in contexts:
            contexts[name] = prompter.prompt("prior", by_id[name]).ids
        context = contexts[name] + trace["token_ids"]
        for m in range(how.m):
            key = (name, trace["k"], m)
            seed = derive_seed(settings.seed, f"answer-{proposal}", settings.round, *key)
            requests.append(Request(key, context, seed, sampling))
    return requests


if __name__ == "__main__":
    command.run(main)
