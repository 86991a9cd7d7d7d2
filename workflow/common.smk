"""The functions that rules call; they look up what `stages.experiments` computes."""

import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# steps run with the Python that runs Snakemake, and with the package of this clone
CLONE = str(Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parent)
sys.path.insert(0, CLONE)
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    PYTHONPATH=os.pathsep.join([CLONE, os.environ.get("PYTHONPATH", "")]),
)

from stages.common.errors import UserError
from stages.experiments import config as experiments
from stages.experiments import layout, recipes, reuse

try:
    CONFIG = experiments.load(config)
    experiments.check_targets(sys.argv[1:], CONFIG.experiments)
except UserError as error:
    raise WorkflowError(str(error)) from None

WORKSPACE = reuse.Workspace(CONFIG)
# `tee` ignores the signals that end a job, so that the step's last message and exit status are kept
LOGGED = "2> >(trap '' TERM INT; exec tee -a {log:q} >&2)"
MACHINE = CONFIG.machine.model_dump_json(exclude_defaults=True)


wildcard_constraints:
    **layout.wildcards(CONFIG.experiments),


def artifact(step, wildcards):
    """The artifact that a job makes."""
    return layout.named(step, **{k: wildcards.get(k, "") for k in ("draws", "model", "role")})


def inputs(step):
    """Input function: what the recipe declares, by the step's argument.

    Modification times of inputs are ignored where the output is finished, so that neither a
    touched file nor a fresh checkout retrains a model or redraws a trace. Snakemake calls this for
    every job, so this is also where a changed setting stops the run.
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
    """Params function: digest of what the artifact depends on; the job reruns when it changes."""
    return lambda wildcards: WORKSPACE.ancestry(
        wildcards.experiment, artifact(step, wildcards)
    ).summary


def files(listed):
    """Input function: files of the artifacts that `listed`, a function of `layout`, returns."""
    return lambda wildcards: WORKSPACE.files(layout.compared(wildcards), listed)


def evaluations(wildcards):
    """Input function: the samples of all models of the experiments that are compared."""
    return list(WORKSPACE.evaluations(layout.compared(wildcards)))


def labels(wildcards):
    """Params function: `model=folder` of each evaluation."""
    evaluated = WORKSPACE.evaluations(layout.compared(wildcards))
    return [f"{label}={Path(file).parent}" for file, label in evaluated.items()]


def gpus(kind):
    """Resources function: GPUs of a job (section `gpus` of the settings)."""
    return lambda wildcards: getattr(CONFIG.experiments[wildcards.experiment].gpus, kind)


def cores(kind):
    """Threads function: all cores on the CPU, one where the work is on a GPU.

    `workflow.cores` raises where jobs run through an executor; `_cores` is None there.
    """
    return lambda wildcards: 1 if gpus(kind)(wildcards) else workflow._cores or 1


def python(command):
    """The shell command of a module of `stages`; its messages are shown and kept in the log.

    `exec` replaces the shell, so that signals from Snakemake reach the step.
    """
    return f"exec python -m stages.{command} {LOGGED}"


def step(command, takes_gpus=False):
    """The shell command of a step that is given settings; `running.gpus` assigns its devices."""
    run = f"running.gpus {{resources.gpu}} -- {command}" if takes_gpus else command
    return python(f"{run} --settings {{params.settings:q}}")
