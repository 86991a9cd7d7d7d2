"""The questions, the base model, and the settings as they were resolved."""


rule settings:
    """Write the resolved settings of an experiment."""
    output:
        "results/{experiment}/settings.json",
    log:
        "logs/{experiment}/settings.log",
    params:
        settings=lambda wildcards: CONFIG.experiments[wildcards.experiment].model_dump_json(),
    shell:
        stage("experiments.config --out {output:q}")


rule questions:
    """Make, read or fetch the questions, and set some aside for evaluation."""
    input:
        keep("questions"),
    output:
        training=KEPT["questions"],
        held_out="results/{experiment}/heldout.parquet",
    log:
        "logs/{experiment}/questions.log",
    params:
        settings=given("questions"),
    shell:
        stage("questions --out {output.training:q} --held-out {output.held_out:q}")


rule base:
    """Get the base model: made with random weights, a local directory, or from the hub."""
    input:
        keep("base"),
    output:
        directory(KEPT["base"]),
    log:
        "logs/{experiment}/base.log",
    params:
        settings=given("base"),
    shell:
        stage("base --out {output:q}")
