"""Train language models to reason by variational inference: questions in, eval.json out.

    snakemake -j8 results/qwen3_8b/eval.json

The experiments are in config.yaml; workflow/rules/ holds one file for each kind of artifact.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


container: None


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
