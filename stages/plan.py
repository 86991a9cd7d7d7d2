"""Plan an experiment before it runs: tokens, FLOPs, device time, memory, disk and price.

python -m stages.plan --settings S [--machine M] --name NAME [--jobs N] [--eval eval.json]
                      --out plan.json [--page plan.html]

Needs no GPU and no weights: the model's shape is read from the folder of `model.path`, from the
hub's cache, or from a table of known models. With an eval.json of the finished experiment, the page
compares it with the plan.
"""

import json
from pathlib import Path

from stages.artifacts import store
from stages.common.errors import UserError
from stages.experiments.settings import Experiment
from stages.experiments.sources import Model
from stages.planning import page
from stages.planning.estimate import make_plan
from stages.planning.shapes import KNOWN, Shape
from stages.planning.workload import lengths_of
from stages.running import command


def main(argv: list[str] | None = None) -> None:
    """Compute the plan, write it as JSON and as a page."""
    parser = command.parser(__doc__)
    parser.add_argument("--name", default="experiment", help="name of the experiment")
    parser.add_argument("--jobs", type=int, default=1, help="as of snakemake -j")
    parser.add_argument(
        "--eval", type=Path, help="eval.json, whose ledger is compared with the plan"
    )
    parser.add_argument("--out", type=Path, required=True, help="plan.json")
    parser.add_argument("--page", type=Path, help="plan.html")
    args = parser.parse_args(argv)
    experiment: Experiment = args.settings

    lengths = lengths_of(experiment)
    if lengths is None:
        raise UserError("the number of questions is unknown; set plan.questions")
    plan = make_plan(
        args.name, experiment, args.machine, shape_of(experiment.model), lengths, args.jobs
    )
    store.write_json(args.out, plan.as_json())
    if args.page is not None:
        there = args.eval is not None and args.eval.exists()
        ledger = json.loads(args.eval.read_text())["cost"] if there else []
        with store.atomic(args.page) as unfinished:
            unfinished.write_text(page.render(plan, ledger), encoding="utf-8")


def shape_of(model: Model) -> Shape:
    """The base model's shape, without its weights.

    Raises
    ------
    UserError
        Neither folder, hub's cache nor table has it.
    """
    if model.scratch is not None:
        scratch = model.scratch
        return Shape(
            hidden=scratch.hidden_size,
            intermediate=scratch.intermediate_size,
            layers=scratch.layers,
            heads=scratch.heads,
            kv_heads=scratch.key_value_heads,
            head_dim=scratch.hidden_size // scratch.heads,
            vocabulary=len(set(scratch.characters)) + 11,  # markers and words of stages/base.py
            tied=True,
        )
    if model.path is None:
        raise UserError("model.path is not set; give a local directory or a name on the hub")
    local = Path(model.path).expanduser() / "config.json"
    if local.exists():
        return Shape.of(json.loads(local.read_text()))
    if model.path in KNOWN:
        return Shape.of(KNOWN[model.path])
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
    if isinstance(cached, str):
        return Shape.of(json.loads(Path(cached).read_text()))
    known = ", ".join(KNOWN)
    raise UserError(
        f"{model.path}: shape unknown; give a local directory, download its config.json into the "
        f"hub's cache, or use one of {known}"
    )


if __name__ == "__main__":
    command.run(main)
