"""Fine-tuned models, and the teacher rows that train the first two."""


rule teacher_rows:
    """Training rows from teacher traces, for the initial model or the first posterior."""
    input:
        unpack(inputs("rows")),
    output:
        "results/{experiment}/teacher_rows/{model}.parquet",
    log:
        "logs/{experiment}/teacher_rows/{model}.log",
    params:
        inputs=arguments,
        settings=settings("rows"),
        identity=identity("rows"),
    shell:
        step("rows {params.inputs} --out {output:q}")


rule finetune:
    """Fine-tune a model on weighted rows."""
    input:
        unpack(inputs("finetune")),
    output:
        directory("results/{experiment}/models/{model}"),
    log:
        "logs/{experiment}/models/{model}.log",
    threads: cores("finetune")
    resources:
        gpu=gpus("finetune"),
        machine=MACHINE,
    params:
        inputs=arguments,
        settings=settings("finetune"),
        identity=identity("finetune"),
    shell:
        step(
            "finetune --machine {resources.machine:q} {params.inputs} --out {output:q}",
            takes_gpus=True,
        )
