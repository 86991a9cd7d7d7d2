"""HTML pages: the report of one experiment, and the comparison of several."""


rule report:
    """The report of an experiment: scores, curves and example traces on one page."""
    input:
        evaluation="results/{experiment}/eval.json",
        questions=ancient(files(layout.questions)),
        models=ancient(files(layout.trained_models)),
        traces=ancient(files(layout.tables("traces"))),
        verdicts=ancient(files(layout.tables("verdicts"))),
        weights=ancient(files(layout.tables("weights"))),
    output:
        "results/{experiment}/report.html",
    log:
        "logs/{experiment}/report.log",
    params:
        settings=lambda wildcards: CONFIG.experiments[wildcards.experiment].model_dump_json(),
        models=lambda wildcards, input: [f"{Path(m).name}={m}" for m in input.models],
        traces=lambda wildcards, input: layout.folders(input.traces),
        verdicts=lambda wildcards, input: layout.folders(input.verdicts),
        summaries=lambda wildcards, input: [
            str(Path(w).with_suffix(".json")) for w in input.weights
        ],
    shell:
        step(
            "report --eval {input.evaluation:q} --models {params.models:q}"
            " --questions {input.questions:q} --traces {params.traces:q}"
            " --verdicts {params.verdicts:q} --weights {input.weights:q}"
            " --summaries {params.summaries:q} --out {output:q}"
        )


rule comparison_page:
    """Scores of several experiments and their paired differences on one page."""
    input:
        "results/compare/{experiments}.json",
    output:
        "results/compare/{experiments}.html",
    log:
        "logs/compare/{experiments}-page.log",
    shell:
        python("report --eval {input:q} --out {output:q}")
