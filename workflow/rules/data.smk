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
        step("settings --out {output:q}")


rule questions:
    """Make, read or fetch the questions, and set some aside for evaluation."""
    input:
        unpack(inputs("questions")),
    output:
        training="results/{experiment}/questions.parquet",
        held_out="results/{experiment}/heldout.parquet",
    log:
        "logs/{experiment}/questions.log",
    params:
        settings=settings("questions"),
        identity=identity("questions"),
    shell:
        step("questions --out {output.training:q} --held-out {output.held_out:q}")


rule base:
    """Get the base model: made with random weights, a local directory, or from the hub."""
    input:
        unpack(inputs("base")),
    output:
        directory("results/{experiment}/models/base"),
    log:
        "logs/{experiment}/base.log",
    params:
        settings=settings("base"),
        identity=identity("base"),
    shell:
        step("base --out {output:q}")
