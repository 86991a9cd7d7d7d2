"""Sample and verify all benchmarks of one model, through one engine start and one queue.

python -m stages.evaluate --settings S --model DIR [--held-out Q] --out DIR [--workers N]

Writes OUT/<benchmark>.parquet for each of evaluation.benchmarks, and OUT/benchmarks.json, their
names, when all are done. The items of `held_out` are the questions of --held-out. With more
samples per item or more benchmarks, only the missing samples are drawn.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages import benchmarks, prompts
from stages.artifacts import digests, store, tables
from stages.artifacts.journal import Journal
from stages.benchmarks import Benchmark, Item
from stages.common.errors import UserError
from stages.common.seeds import derive_seed
from stages.engines import Draw, Request, Sampling
from stages.experiments.settings import StepSettings
from stages.running import command, origin_of
from stages.running.sampling import draw_missing
from stages.verifiers import Kind, NoSandbox, Pool, Task, Verdict, VerifyOptions


@dataclass(frozen=True)
class Plan:
    """A benchmark to run: its items, and the number of samples per item."""

    benchmark: Benchmark
    items: dict[str, Item]
    samples: int
    source: str

    @property
    def keys(self) -> list[tuple[str, str, int]]:
        """Keys of all samples, those of an item together."""
        return [(self.benchmark.name, i, s) for i in self.items for s in range(self.samples)]


def main(argv: list[str] | None = None) -> None:
    """Load the items, draw missing samples, verify, write one table per benchmark."""
    parser = command.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model to evaluate")
    parser.add_argument("--held-out", type=Path, help="table of held-out questions")
    parser.add_argument("--out", type=Path, required=True, help="folder of sample tables")
    parser.add_argument("--workers", type=int, help="verifier processes; default: one per core")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings

    model = command.model_directory(args.model)
    plans = {plan.benchmark.name: plan for plan in plan_all(settings, args.held_out)}
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(verifier(settings, args.workers))
        sandbox = sandbox_for(plans.values(), pool)
        inputs = {"model": model, "held_out": args.held_out if "held_out" in plans else None}
        origin = origin_of.output("evaluate", settings, inputs, settings.role)
        journals = Journals()
        for name, plan in plans.items():
            recipe = origin.recipe | {f"benchmarks/{name}": {"source": plan.source}}
            out = args.out / f"{name}.parquet"
            journal = Journal(out, tables.SAMPLES, recipe, ("n_tokens",))
            journals.by_benchmark[name] = stack.enter_context(journal)
        prompter = prompts.Prompter(settings, command.load_tokenizer(model))
        requests = sample_requests(plans, settings, prompter)
        draw_missing(
            journals,
            requests,
            sample_row(requests, plans, prompter),
            what="samples",
            model=model,
            engine=settings.engine.model_copy(update={"dtype": settings.evaluation.dtype}),
            machine=args.machine,
        )
        provenance = command.provenance(
            origin, settings, device=command.device_name(), sandbox=sandbox
        )
        finish(journals, plans, pool, settings, provenance)
    store.write_json(args.out / "benchmarks.json", list(plans))


def plan_all(settings: StepSettings, held_out: Path | None) -> list[Plan]:
    """The benchmarks of the settings with their items.

    Raises
    ------
    UserError
        A benchmark is unknown or listed twice, or its items are unavailable.
    """
    plans: list[Plan] = []
    for choice in settings.evaluation.benchmarks:
        benchmark = benchmarks.find(choice.name)
        if any(plan.benchmark is benchmark for plan in plans):
            raise UserError(f"evaluation.benchmarks: duplicate {choice.name}; keep one")
        path = given = Path(choice.path) if choice.path else None
        if choice.name == "held_out":
            path = path or held_out
            if path is None:
                raise UserError("benchmark held_out: give --held-out, a table of questions")
        items = benchmarks.load(benchmark, path, choice.limit)
        named = {item.item_id: item for item in items}
        greedy = settings.evaluation.temperature == 0  # all samples of an item are equal
        samples = choice.samples or (1 if greedy else benchmark.samples)
        plans.append(Plan(benchmark, named, samples, source(benchmark, given)))
    return plans


def source(benchmark: Benchmark, path: Path | None) -> str:
    """Source of a benchmark's items: a commit on the hub, or the digest of a file.

    Empty for `--held-out`, which is an input of the step like any other.
    """
    if path is None:
        return benchmark.hub.revision if benchmark.hub else ""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
        return digests.digest([digests.file_digest(file) for file in files])
    return digests.file_digest(path)


def sample_requests(
    plans: Mapping[str, Plan], settings: StepSettings, prompter: prompts.Prompter
) -> list[Request]:
    """One request per sample, benchmark after benchmark, as a single queue."""
    how = settings.evaluation
    stop = (prompter.template.end_solution,)
    sampling = Sampling(how.temperature, how.top_p, -1, how.max_tokens, stop)
    requests = []
    for plan in plans.values():
        contexts = {
            name: prompter.prompt("evaluation", {"question": item.prompt}).ids
            for name, item in plan.items.items()
        }
        for key in plan.keys:
            seed = derive_seed(settings.seed, "evaluation", *key)
            requests.append(Request(key, contexts[key[1]], seed, sampling))
    return requests


def sample_row(
    requests: list[Request], plans: Mapping[str, Plan], prompter: prompts.Prompter
) -> Callable[[Draw, str], dict[str, Any]]:
    """A function that turns a draw into a row of the `samples` table, without its verdict."""
    seeds = {request.key: request.seed for request in requests}

    def row(draw: Draw, text: str) -> dict[str, Any]:
        name, item_id, sample = draw.key
        item = plans[str(name)].items[str(item_id)]
        return {
            "benchmark": name,
            "item_id": item_id,
            "sample": sample,
            "seed": seeds[draw.key],
            "prompt": prompter.prompt("evaluation", {"question": item.prompt}).text,
            "response": text,
            "n_tokens": len(draw.token_ids),
            "finish_reason": draw.finish_reason,
            "question": item.question,
            "answer": item.answer,
            "difficulty": item.difficulty,
            "option_order": item.option_order,
        }

    return row


class Journals:
    """The journals of several tables that are filled from one queue."""

    def __init__(self) -> None:
        self.by_benchmark: dict[str, Journal] = {}

    def __contains__(self, key: tuple[str | int, ...]) -> bool:
        return key in self.by_benchmark[str(key[0])]

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row to the journal of its benchmark."""
        self.by_benchmark[row["benchmark"]].append(row)


# ------------------------------------------------------------------------------ verification


def verifier(settings: StepSettings, workers: int | None) -> Pool:
    """A verifier pool with the limits of the settings."""
    limits = settings.verdicts
    return Pool(
        workers,
        limits.time_limit,
        limits.memory_limit,
        code_time_limit=limits.code_time_limit,
        allow_unsandboxed=limits.allow_unsandboxed,
    )


def sandbox_for(plans: Iterable[Plan], pool: Pool) -> str | None:
    """Name of the sandbox, None without programs; checked before anything is sampled."""
    kinds = {item.answer_kind for plan in plans for item in plan.items.values()}
    try:
        return pool.sandbox() if "code" in kinds else None
    except NoSandbox as error:
        raise UserError(str(error)) from None


def verified(
    rows: list[dict[str, Any]], plan: Plan, pool: Pool, settings: StepSettings
) -> list[dict[str, Any]]:
    """The rows with verdict, extracted answer, reason and vote.

    `rows` are all samples of a benchmark, those of an item together.
    """
    judged = dict(pool.run(task(row, plan.items[row["item_id"]], settings) for row in rows))
    judged_rows = []
    for item_id, samples in itertools.groupby(rows, key=lambda row: row["item_id"]):
        of_item = list(samples)
        verdicts = [judged[key(row)] for row in of_item]
        votes = ballots(verdicts, plan.items[item_id].answer_kind, pool)
        for row, judgement, vote in zip(of_item, verdicts, votes, strict=True):
            verdict, extracted, reason, _ = judgement
            new = {"verdict": verdict, "extracted": extracted, "reason": reason, "vote": vote}
            judged_rows.append(row | new)
    return judged_rows


def key(row: Mapping[str, Any]) -> tuple[str, int]:
    """Key of a sample within its benchmark."""
    return row["item_id"], row["sample"]


def task(row: Mapping[str, Any], item: Item, settings: StepSettings) -> Task:
    """Verification task of one sample."""
    options = VerifyOptions(item.options, item.tests)
    text = prompts.text_to_verify(row["response"], settings.prompts, has_thought=True)
    return key(row), text, item.answer, item.answer_kind, options


def ballots(verdicts: Sequence[Verdict], kind: Kind, pool: Pool) -> list[int | None]:
    """Votes of an item's samples: 0 for correct answers, another number for each other answer.

    The verifier decides which wrong answers are equal. A missing answer casts no vote, nor does a
    program: whether two programs do the same is undecidable.
    """
    if kind == "code":
        return [None] * len(verdicts)
    wrong = [v.extracted if v.verdict != "correct" else None for v in verdicts]
    distinct = list(dict.fromkeys(text for text in wrong if text is not None))
    numbers = pool.clusters(distinct, kind)
    groups: dict[str | None, int] = {
        text: 1 + number
        for text, number in zip(distinct, numbers, strict=True)
        if number is not None
    }
    return [
        0 if v.verdict == "correct" else groups.get(text)
        for v, text in zip(verdicts, wrong, strict=True)
    ]


# ----------------------------------------------------------------------------------- writing


def finish(
    journals: Journals,
    plans: Mapping[str, Plan],
    pool: Pool,
    settings: StepSettings,
    made: Mapping[str, Any],
) -> None:
    """Verify, write each benchmark's table, and end its journal.

    All benchmarks share one run: its seconds are divided in proportion to their tokens.
    """
    tokens = {
        name: sum(journals.by_benchmark[name].column("n_tokens", plan.keys))
        for name, plan in plans.items()
    }
    total = max(1, sum(tokens.values()))
    for name, plan in plans.items():
        journal = journals.by_benchmark[name]
        cost = {"seconds": journal.seconds * tokens[name] / total, "tokens": tokens[name]}
        rows = verified(list(journal.rows(plan.keys)), plan, pool, settings)
        data = pa.Table.from_pylist(rows, schema=tables.SAMPLES.schema)
        journal.finish(plan.keys, {**made, **cost}, [data])


if __name__ == "__main__":
    command.run(main)
