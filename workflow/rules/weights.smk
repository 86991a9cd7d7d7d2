"""Importance weights, and the training rows that follow from them."""


rule weights:
    """Compute the importance weights of a round's traces."""
    input:
        unpack(inputs("weights")),
    output:
        weights="results/{experiment}/{draws}/weights.parquet",
        summary="results/{experiment}/{draws}/weights.json",
        by_question="results/{experiment}/{draws}/diagnostics.parquet",
    log:
        "logs/{experiment}/{draws}/weights.log",
    params:
        inputs=arguments,
        settings=settings("weights"),
        identity=identity("weights"),
    shell:
        step(
            "weights {params.inputs} --out {output.weights:q} --summary {output.summary:q}"
            " --by-question {output.by_question:q}"
        )


rule rows:
    """Build the training rows of a round's final model, or of a posterior trained on rollouts."""
    input:
        unpack(inputs("rows")),
    output:
        "results/{experiment}/{draws}/rows.parquet",
    log:
        "logs/{experiment}/{draws}/rows.log",
    params:
        inputs=arguments,
        settings=settings("rows"),
        identity=identity("rows"),
    shell:
        step("rows {params.inputs} --out {output:q}")
