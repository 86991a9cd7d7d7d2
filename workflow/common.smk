"""The few functions that rules use: where artifacts lie, what steps are given, how they start."""

import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from stages.experiments import config as experiments
from stages.common.errors import UserError

MODELS = ("base", "initial", "posterior", "final")

# steps run with the Python that runs Snakemake
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

try:
    CONFIG = experiments.load(config)
    experiments.check_targets(sys.argv[1:], CONFIG.experiments)
except UserError as error:
    raise WorkflowError(str(error)) from None

MACHINE = CONFIG.machine.model_dump_json(exclude_defaults=True)


wildcard_constraints:
    experiment="|".join(map(re.escape, CONFIG.experiments)),
    model=r"(initial|posterior|final)(-\d+)?",
    draws=r"round-\d+(?:/rollouts)?",
    role="prior|posterior",
    shard=r"\d{4}",


def round_of(wildcards):
    """The round a job works for: `round-2/rollouts` and `final-2` are of round 2."""
    name = wildcards.get("draws") or wildcards.get("model") or ""
    number = re.search(r"-(\d+)", name)
    return int(number.group(1)) if number else 1


def path(experiment, artifact, round_=1):
    """Where an artifact lies: in the folder of the oldest ancestor that makes the same.

    `artifact` is questions, heldout, a model, or what its path is in a round's folder, for instance
    `traces`, `scores/prior` or `rollouts/weights.parquet`.
    """
    kind = re.split(r"[/.]", artifact)[0]
    decided_by = {"heldout": "questions", "rollouts": "posterior", "rows": "final"}.get(kind, kind)
    folder = f"results/{experiments.home(CONFIG, experiment, decided_by, round_)}"
    if kind in MODELS:
        return f"{folder}/models/{kind}" + (f"-{round_}" if round_ > 1 else "")
    if kind in ("questions", "heldout"):
        return f"{folder}/{kind}.parquet"
    return f"{folder}/round-{round_}/{artifact}"


def made(artifact):
    """Input function: an artifact of the job's own round, or of its own rollouts."""

    def where(wildcards):
        rollouts = wildcards.get("draws", "").endswith("rollouts")
        inside = f"rollouts/{artifact}" if rollouts and artifact != "questions" else artifact
        return path(wildcards.experiment, inside, round_of(wildcards))

    return where


def same_shard(artifact):
    """Input function: the job's own shard of another artifact."""

    def where(wildcards):
        return f"{made(artifact)(wildcards)}/shard-{wildcards.shard}.parquet"

    return where


def each_shard(artifact):
    """Input function: all shards of an artifact."""

    def where(wildcards):
        count = CONFIG.experiments[wildcards.experiment].traces.shards
        folder = made(artifact)(wildcards)
        return [f"{folder}/shard-{shard:04d}.parquet" for shard in range(count)]

    return where


def base(wildcards):
    """Input function: the base model."""
    return path(wildcards.experiment, "base")


def prior(wildcards):
    """Input function: π_θ0, the initial model or the final model of the round before."""
    round_ = round_of(wildcards)
    if round_ == 1:
        return path(wildcards.experiment, "initial")
    return path(wildcards.experiment, "final", round_ - 1)


def proposal(wildcards):
    """Input function: the model that writes the traces."""
    of_prior = CONFIG.experiments[wildcards.experiment].traces.proposal == "prior"
    if of_prior or wildcards.draws.endswith("rollouts"):
        return prior(wildcards)
    return path(wildcards.experiment, "posterior", round_of(wildcards))


def rows_of(wildcards):
    """Input function: the rows a model is trained on."""
    kind = wildcards.model.partition("-")[0]
    name, round_ = wildcards.experiment, round_of(wildcards)
    if kind == "final":
        return path(name, "rows.parquet", round_)
    if round_ == 1:
        return f"results/{name}/teacher_rows/{kind}.parquet"
    return path(name, "rollouts/rows.parquet", round_)


def start_of(wildcards):
    """Input function: the model that a fine-tuning starts from."""
    experiment = CONFIG.experiments[wildcards.experiment]
    if wildcards.model.startswith("posterior") and experiment.posterior.init == "initial":
        return prior(wildcards)
    return base(wildcards)


def scored_model(wildcards):
    """Input function: the model whose log-probs a job computes."""
    if wildcards.role == "prior":
        return prior(wildcards)
    return path(wildcards.experiment, "posterior", round_of(wildcards))


def scored_by(role):
    """Input function: all shards of a role's scores; none where no ratio is taken."""

    def where(wildcards):
        of_prior = CONFIG.experiments[wildcards.experiment].traces.proposal == "prior"
        if role == "posterior" and (of_prior or wildcards.draws.endswith("rollouts")):
            return []
        return each_shard(f"scores/{role}")(wildcards)

    return where


def sampled(artifact):
    """Input function: all shards of answers or verdicts; none where M is 0."""

    def where(wildcards):
        if CONFIG.experiments[wildcards.experiment].answers.m == 0:
            return []
        return each_shard(artifact)(wildcards)

    return where


def table(flag, artifact):
    """Params function: a flag and the folder of an artifact's shards, where the job takes any."""

    def argument(wildcards, input):
        files = input.get(artifact.split("/")[-1])
        return f"{flag} {Path(files[0]).parent}" if files else ""

    return argument


def settings_of(wildcards, artifact):
    """An experiment, the artifact that its job works for, its round, and whether it draws rollouts."""
    rollouts = wildcards.get("draws", "").endswith("rollouts")
    kind = wildcards.model.partition("-")[0] if artifact == "model" else artifact
    experiment = CONFIG.experiments[wildcards.experiment]
    return experiment, "posterior" if rollouts else kind, round_of(wildcards), rollouts


def given(artifact):
    """Params function: the settings of a step on the way to an artifact, as JSON."""

    def settings(wildcards):
        return json.dumps(experiments.step_settings(*settings_of(wildcards, artifact)))

    return settings


# Finished work that is never made anew unasked, and where it lies.
KEPT = {
    "questions": "results/{experiment}/questions.parquet",
    "base": "results/{experiment}/models/base",
    "model": "results/{experiment}/models/{model}",
    "traces": "results/{experiment}/{draws}/traces/shard-{shard}.parquet",
    "scores": "results/{experiment}/{draws}/scores/{role}/shard-{shard}.parquet",
    "answers": "results/{experiment}/{draws}/answers/shard-{shard}.parquet",
    "verdicts": "results/{experiment}/{draws}/verdicts/shard-{shard}.parquet",
}


def is_kept(artifact, wildcards):
    """Whether a job's output is there and is what its settings would make.

    Stops where they would make another one, and where the output is a parent's.
    """
    name = wildcards.experiment
    experiment, kind, round_, rollouts = settings_of(wildcards, artifact)
    finished = Path(KEPT[artifact].format(**dict(wildcards.items())))
    home = experiments.home(CONFIG, name, kind, round_)
    try:
        if home != name:
            there = Path("results", home, *finished.parts[2:])
            raise UserError(f"{name} uses what {home} makes: ask for {there}")
        if artifact == "questions":
            experiments.same_source(finished, experiment.questions.file, name)
        now = experiments.step_settings(experiment, kind, round_, rollouts)
        wanted = experiments.sections(experiment, kind, round_)
        return experiments.is_fresh(finished, now, wanted, name)
    except UserError as error:
        sys.exit(f"error: {error}")  # a WorkflowError would be shown with a traceback here


def keep(artifact, find=None):
    """Input function: what `find` finds, its age ignored while the job's output is kept.

    So neither a touched file nor a new checkout has anything made anew. Input functions are asked
    for every job, so this is also where a changed setting stops the run.
    """

    def where(wildcards):
        kept = is_kept(artifact, wildcards)
        found = find(wildcards) if find else []
        return ancient(found) if kept and found else found

    return where


def gpus(kind):
    """Resources function: GPUs a job of this kind takes (section `gpus` of the settings)."""

    def count(wildcards):
        return getattr(CONFIG.experiments[wildcards.experiment].gpus, kind)

    return count


def cores(kind):
    """Threads function: all cores for work on the CPU, one beside a GPU."""

    def count(wildcards):
        return 1 if gpus(kind)(wildcards) else workflow.cores or 1

    return count


def training_cores(wildcards):
    """Threads function: the first two models are trained side by side, the others alone."""
    return cores("finetune")(wildcards) if wildcards.model.startswith("final") else 1


def stage(command, takes_gpus=False):
    """The shell command that runs a step, its messages shown and appended to the log.

    `tee` ignores the signals that end a job: the step's last message and exit status are kept.

    `exec` lets the step end with Snakemake, and `stages.running.gpus` gives it devices of its own.
    """
    run = f"-m stages.running.gpus {{resources.gpu}} -- {command}" if takes_gpus else f"-m stages.{command}"
    return f"exec python {run} --settings {{params.settings:q}} 2> >(trap '' TERM INT; exec tee -a {{log:q}} >&2)"
