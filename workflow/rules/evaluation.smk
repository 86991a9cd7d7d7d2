"""Evaluation of every model, and the scores of one experiment or of several."""


rule evaluate:
    """Sample and verify all benchmarks of one model."""
    input:
        unpack(inputs("evaluate")),
    output:
        "results/{experiment}/eval/{model}/benchmarks.json",
    log:
        "logs/{experiment}/eval/{model}.log",
    wildcard_constraints:
        model=layout.EVALUATED,
    threads: cores("sampling")
    resources:
        gpu=gpus("sampling"),
        machine=MACHINE,
    params:
        inputs=arguments,
        settings=settings("evaluate"),
        identity=identity("evaluate"),
        folder=subpath(output[0], parent=True),
    shell:
        step(
            "evaluate --machine {resources.machine:q} {params.inputs} --out {params.folder:q}",
            takes_gpus=True,
        )


rule summary:
    """Score an experiment's models: eval.json."""
    input:
        evaluations=evaluations,
        questions=ancient(files(layout.questions)),
        models=ancient(files(layout.trained_models)),
        draws=ancient(files(layout.draws)),
        settings="results/{experiment}/settings.json",
    output:
        "results/{experiment}/eval.json",
    log:
        "logs/{experiment}/summary.log",
    params:
        folders=labels,
        artifacts=lambda wildcards, input: layout.folders([*input.models, *input.draws]),
    shell:
        python(
            "summary --name {wildcards.experiment} --eval {params.folders:q}"
            " --questions {input.questions:q} --artifacts {params.artifacts:q} --out {output:q}"
        )


rule comparison:
    """Score the models of several experiments, paired by item."""
    input:
        evaluations=evaluations,
        questions=files(layout.questions),
    output:
        "results/compare/{experiments}.json",
    log:
        "logs/compare/{experiments}.log",
    params:
        folders=labels,
    shell:
        python(
            "summary --name {wildcards.experiments:q} --eval {params.folders:q}"
            " --questions {input.questions:q} --out {output:q}"
        )
