"""Fine-tuned models, and the teacher rows that the first two learn from."""


rule teacher_rows:
    """Rows of the teacher's traces, for the initial model or the first posterior."""
    input:
        questions=made("questions"),
        base=base,
    output:
        "results/{experiment}/teacher_rows/{model}.parquet",
    log:
        "logs/{experiment}/teacher_rows/{model}.log",
    params:
        settings=given("model"),
    shell:
        stage("rows --questions {input.questions:q} --tokenizer {input.base:q} --out {output:q}")


rule finetune:
    """Fine-tune a model on weighted rows."""
    input:
        rows=keep("model", rows_of),
        base=keep("model", start_of),
    output:
        directory(KEPT["model"]),
    log:
        "logs/{experiment}/models/{model}.log",
    params:
        settings=given("model"),
    resources:
        gpu=gpus("finetune"),
        machine=MACHINE,
    threads: training_cores
    shell:
        stage(
            "finetune --machine {resources.machine:q} --rows {input.rows:q} --base {input.base:q}"
            " --out {output:q}",
            takes_gpus=True,
        )
