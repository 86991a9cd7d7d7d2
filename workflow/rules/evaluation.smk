"""Evaluation of every model, and the figures of an experiment or of several."""


rule evaluate:
    """Sample and verify all benchmarks of one model."""
    input:
        model=ancient(evaluated_model),
        held_out=ancient(made("heldout")),
    output:
        "results/{experiment}/eval/{model}/benchmarks.json",
    wildcard_constraints:
        model=r"base|initial|final(-\d+)?",
    log:
        "logs/{experiment}/eval/{model}.log",
    params:
        settings=evaluation_settings,
        folder=subpath(output[0], parent=True),
    resources:
        gpu=gpus("sampling"),
        machine=MACHINE,
    threads: cores("sampling")
    shell:
        stage(
            "evaluate --machine {resources.machine:q} --model {input.model:q} --held-out {input.held_out:q}"
            " --out {params.folder:q}",
            takes_gpus=True,
        )


rule summary:
    """Score an experiment's models: eval.json."""
    input:
        evaluations=evaluation_files,
        questions=ancient(made("questions")),
        models=ancient(trained_models),
        draws=ancient(draws_of),
        settings="results/{experiment}/settings.json",
    output:
        "results/{experiment}/eval.json",
    log:
        "logs/{experiment}/summary.log",
    params:
        folders=evaluation_folders,
        artifacts=artifacts,
    shell:
        "exec python -m stages.summary --name {wildcards.experiment} --eval {params.folders:q}"
        " --questions {input.questions:q} --artifacts {params.artifacts:q} --out {output:q}"
        " 2> >(trap '' TERM INT; exec tee -a {log:q} >&2)"


rule comparison:
    """Score the models of several experiments, paired by item."""
    input:
        evaluations=evaluation_files,
        questions=lambda wildcards: sorted({path(n, "questions") for n in compared(wildcards)}),
    output:
        "results/compare/{experiments}.json",
    wildcard_constraints:
        experiments=SEVERAL,
    log:
        "logs/compare/{experiments}.log",
    params:
        folders=evaluation_folders,
    shell:
        "exec python -m stages.summary --name {wildcards.experiments:q}"
        " --eval {params.folders:q} --questions {input.questions:q} --out {output:q}"
        " 2> >(trap '' TERM INT; exec tee -a {log:q} >&2)"
