"""Importance weights, and the training rows that they give."""


def scored_by(role):
    """Input function: all shards of a role's scores; none where no ratio is taken."""

    def where(wildcards):
        of_prior = CONFIG.experiments[wildcards.experiment].traces.proposal == "prior"
        if role == "posterior" and (of_prior or wildcards.draws.endswith("/rollouts")):
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
            " --summary {output.summary:q}"
        )


rule rows:
    """Make the training rows of a round's final model, or of a later round's posterior."""
    input:
        questions=made("questions"),
        base=ancient(base),
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
