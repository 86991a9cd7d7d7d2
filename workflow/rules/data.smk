"""The questions, the base model, and the resolved settings."""


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
    """Generate, read or download the questions, and hold some out for evaluation."""
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
    """Get the base model: random weights, a local directory or file, or the hub."""
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
