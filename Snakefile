"""Train language models to reason by variational inference, from questions to eval.json.

    snakemake -j8 results/qwen3_8b/eval.json

The experiments are in config.yaml, the rules in workflow/rules/, one file per kind of artifact.
"""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


# that of the run's folder, else that of this clone
configfile: "config.yaml" if Path("config.yaml").exists() else f"{workflow.basedir}/config.yaml"


# Used only with --software-deployment-method apptainer; requirements/container.def builds it.
container: "container.sif"


rule all:
    """The demo: the tiny experiment, evaluated and reported."""
    default_target: True
    input:
        "results/tiny/report.html",


include: "workflow/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/traces.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/plan.smk"
