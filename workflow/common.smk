"""The functions that rules use; what they answer is computed in `stages.experiments`."""

import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# steps run with the Python that runs Snakemake, and with the package of this clone
CLONE = str(Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parent)
sys.path.insert(0, CLONE)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["PYTHONPATH"] = os.pathsep.join([CLONE, os.environ.get("PYTHONPATH", "")])

from stages.common.errors import UserError
from stages.experiments import config as experiments
from stages.experiments import layout, recipes, reuse

try:
    CONFIG = experiments.load(config)
    experiments.check_targets(sys.argv[1:], CONFIG.experiments)
except UserError as error:
    raise WorkflowError(str(error)) from None

WORKSPACE = reuse.Workspace(CONFIG)
# `tee` ignores the signals that end a job: the step's last message and exit status are kept
LOGGED = "2> >(trap '' TERM INT; exec tee -a {log:q} >&2)"
MACHINE = CONFIG.machine.model_dump_json(exclude_defaults=True)


wildcard_constraints:
    **layout.wildcards(CONFIG.experiments),


def artifact(step, wildcards):
    """The artifact that a job makes."""
    return layout.named(step, **{k: wildcards.get(k, "") for k in ("draws", "model", "role")})


def inputs(step):
    """Input function: what the recipe declares, by the step's argument.

    The age of inputs is ignored where the output is finished: neither a touched file nor a new
    checkout has a model trained or a trace drawn again. Snakemake asks for every job, so this is
    also where a changed setting stops the run.
    """

    def files(wildcards):
        job = (wildcards.experiment, artifact(step, wildcards), wildcards.get("shard"))
        try:
            finished = WORKSPACE.is_finished(*job)
        except UserError as error:
            sys.exit(f"error: {error}")  # Snakemake would show a traceback with a WorkflowError
        return {k: ancient(v) if finished else v for k, v in WORKSPACE.inputs(*job).items()}

    return files


def arguments(wildcards, input):
    """Params function: the inputs as arguments of the step."""
    return layout.arguments({name: input.get(name) for name in input.keys()})


def settings(step):
    """Params function: the settings that the recipe declares, as JSON."""
    return lambda wildcards: json.dumps(
        recipes.step_settings(CONFIG.experiments[wildcards.experiment], artifact(step, wildcards))
    )


def identity(step):
    """Params function: what the artifact depends on; a job runs again when it changes."""
    return lambda wildcards: WORKSPACE.ancestry(
        wildcards.experiment, artifact(step, wildcards)
    ).summary


def files(listed):
    """Input function: the files of those artifacts of a job's experiments that `listed` names."""
    return lambda wildcards: WORKSPACE.files(layout.compared(wildcards), listed)


def evaluations(wildcards):
    """Input function: the samples of all models of the experiments that are compared."""
    return list(WORKSPACE.evaluations(layout.compared(wildcards)))


def labels(wildcards):
    """Params function: `model=folder` of each evaluation."""
    found = WORKSPACE.evaluations(layout.compared(wildcards))
    return [f"{label}={Path(file).parent}" for file, label in found.items()]


def gpus(kind):
    """Resources function: GPUs of a job (section `gpus` of the settings)."""
    return lambda wildcards: getattr(CONFIG.experiments[wildcards.experiment].gpus, kind)


def cores(kind):
    """Threads function: all cores for work on the CPU, one beside a GPU.

    `workflow.cores` raises where an executor runs the jobs; `_cores` is None there.
    """
    return lambda wildcards: 1 if gpus(kind)(wildcards) else workflow._cores or 1


def step(command, takes_gpus=False):
    """The shell command of a step, its messages kept in the log as well as shown.

    `exec` lets the step end with Snakemake, and `stages.running.gpus` gives it devices of its own.
    """
    run = f"running.gpus {{resources.gpu}} -- {command}" if takes_gpus else command
    return f"exec python -m stages.{run} --settings {{params.settings:q}} {LOGGED}"
