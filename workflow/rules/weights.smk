"""Importance weights, and the training rows that they give."""


rule weights:
    """Weigh the traces of a round."""
    input:
        questions=made("questions"),
        traces=each_shard("traces"),
        prior=scored_by("prior"),
        posterior=scored_by("posterior"),
        verdicts=sampled("verdicts"),
    output:
        weights="results/{experiment}/{draws}/weights.parquet",
        summary="results/{experiment}/{draws}/weights.json",
        by_question="results/{experiment}/{draws}/diagnostics.parquet",
    log:
        "logs/{experiment}/{draws}/weights.log",
    params:
        settings=given("weights"),
        traces=table("--traces", "traces"),
        prior=table("--prior", "prior"),
        posterior=table("--posterior", "posterior"),
        verdicts=table("--verdicts", "verdicts"),
    shell:
        stage(
            "weights --questions {input.questions:q} {params.traces} {params.prior}"
            " {params.posterior} {params.verdicts} --out {output.weights:q}"
            " --summary {output.summary:q} --by-question {output.by_question:q}"
        )


rule rows:
    """Make the training rows of a round's final model, or of a later round's posterior."""
    input:
        questions=made("questions"),
        base=base,
        weights=made("weights.parquet"),
        traces=each_shard("traces"),
        answers=sampled("answers"),
        verdicts=sampled("verdicts"),
    output:
        "results/{experiment}/{draws}/rows.parquet",
    log:
        "logs/{experiment}/{draws}/rows.log",
    params:
        settings=given("final"),
        traces=table("--traces", "traces"),
        answers=table("--answers", "answers"),
        verdicts=table("--verdicts", "verdicts"),
    shell:
        stage(
            "rows --questions {input.questions:q} --tokenizer {input.base:q} {params.traces}"
            " --weights {input.weights:q} {params.answers} {params.verdicts} --out {output:q}"
        )
