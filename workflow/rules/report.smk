"""Pages for people: the report of an experiment, and the comparison of several."""


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
        "exec python -m stages.report --eval {input:q} --out {output:q} 2> >(trap '' TERM INT; exec tee -a {log:q} >&2)"
