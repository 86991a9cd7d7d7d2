"""Pages for people: the report of an experiment, and the comparison of several."""


def each_round(artifact):
    """Input function: an artifact of every round that leads to a model that is evaluated."""

    def where(wildcards):
        settings = CONFIG.experiments[wildcards.experiment]
        count = settings.rounds if "final" in settings.evaluation.models else 0
        return [path(wildcards.experiment, artifact, r) for r in range(1, count + 1)]

    return where


def folders_of(kind):
    """Params function: the folders of a kind's shards, one a round."""

    def where(wildcards, input):
        if kind == "verdicts" and not CONFIG.experiments[wildcards.experiment].answers.m:
            return []
        return each_round(kind)(wildcards)

    return where


def named_models(wildcards, input):
    """Params function: `name=folder` for each model that was trained."""
    return [f"{Path(folder).name}={folder}" for folder in input.models]


rule report:
    """The page of an experiment that a person opens first."""
    input:
        evaluation="results/{experiment}/eval.json",
        questions=ancient(made("questions")),
        models=ancient(trained_models),
        draws=ancient(draws_of),
        weights=ancient(each_round("weights.parquet")),
        summaries=ancient(each_round("weights.json")),
    output:
        "results/{experiment}/report.html",
    log:
        "logs/{experiment}/report.log",
    params:
        settings=given("final"),
        models=named_models,
        traces=folders_of("traces"),
        verdicts=folders_of("verdicts"),
    shell:
        stage(
            "report --eval {input.evaluation:q} --models {params.models:q}"
            " --questions {input.questions:q} --traces {params.traces:q}"
            " --verdicts {params.verdicts:q} --weights {input.weights:q}"
            " --summaries {input.summaries:q} --out {output:q}"
        )


rule comparison_page:
    """Scores of several experiments on one page, with paired differences."""
    input:
        "results/compare/{experiments}.json",
    output:
        "results/compare/{experiments}.html",
    wildcard_constraints:
        experiments=SEVERAL,
    log:
        "logs/compare/{experiments}-page.log",
    shell:
        "exec {PYTHON:q} -m stages.report --eval {input:q} --out {output:q} 2> >(tee {log:q} >&2)"
