"""Fine-tuned models, and the teacher rows that the first two learn from."""


def rows_of(wildcards):
    """Input function: the rows a model is trained on."""
    kind = wildcards.model.partition("-")[0]
    name, round_ = wildcards.experiment, round_of(wildcards)
    if kind == "final":
        return path(name, "rows.parquet", round_)
    if round_ == 1:
        return f"results/{name}/teacher_rows/{kind}.parquet"
    return path(name, "rollouts/rows.parquet", round_)


def start_of(wildcards):
    """Input function: the model that a fine-tuning starts from."""
    experiment = CONFIG.experiments[wildcards.experiment]
    if wildcards.model.startswith("posterior") and experiment.posterior.init == "initial":
        return prior(wildcards)
    return base(wildcards)


rule teacher_rows:
    """Rows of the teacher's traces, for the initial model or the first posterior."""
    input:
        questions=ancient(made("questions")),
        base=ancient(base),
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
        rows=ancient(rows_of),
        base=ancient(start_of),
    output:
        directory("results/{experiment}/models/{model}"),
    log:
        "logs/{experiment}/models/{model}.log",
    params:
        settings=given("model", beside="results/{experiment}/models/{model}"),
    resources:
        gpu=gpus("finetune"),
    shell:
        stage(
            "finetune --machine {MACHINE:q} --rows {input.rows:q} --base {input.base:q}"
            " --out {output:q}",
            takes_gpus=True,
        )
