"""Traces, their scores under both models, their answers, and the verdicts: shard by shard."""


rule traces:
    """Sample K traces of every question of a shard."""
    input:
        questions=ancient(made("questions")),
        model=ancient(proposal),
    output:
        update("results/{experiment}/{draws}/traces/shard-{shard}.parquet"),
    log:
        "logs/{experiment}/{draws}/traces/shard-{shard}.log",
    params:
        settings=given(
            "traces", beside="results/{experiment}/{draws}/traces/shard-{shard}.parquet"
        ),
        shards=lambda wildcards: CONFIG.experiments[wildcards.experiment].traces.shards,
    resources:
        gpu=gpus("sampling"),
        machine=MACHINE,
    threads: cores("sampling")
    shell:
        stage(
            "traces --machine {resources.machine:q} --questions {input.questions:q} --model {input.model:q}"
            " --shard {wildcards.shard}/{params.shards} --out {output:q}",
            takes_gpus=True,
        )


rule scores:
    """Score a shard's traces under the prior or the posterior."""
    input:
        questions=ancient(made("questions")),
        traces=ancient(same_shard("traces")),
        model=ancient(scored_model),
    output:
        update("results/{experiment}/{draws}/scores/{role}/shard-{shard}.parquet"),
    log:
        "logs/{experiment}/{draws}/scores/{role}/shard-{shard}.log",
    params:
        settings=given(
            "scores", beside="results/{experiment}/{draws}/scores/{role}/shard-{shard}.parquet"
        ),
    resources:
        gpu=gpus("scoring"),
        machine=MACHINE,
    shell:
        stage(
            "scores --machine {resources.machine:q} --questions {input.questions:q}"
            " --traces {input.traces:q} --model {input.model:q} --role {wildcards.role}"
            " --out {output:q}",
            takes_gpus=True,
        )


rule answers:
    """Sample M answers after every closed trace of a shard, from the prior."""
    input:
        questions=ancient(made("questions")),
        traces=ancient(same_shard("traces")),
        model=ancient(prior),
    output:
        update("results/{experiment}/{draws}/answers/shard-{shard}.parquet"),
    log:
        "logs/{experiment}/{draws}/answers/shard-{shard}.log",
    params:
        settings=given(
            "answers", beside="results/{experiment}/{draws}/answers/shard-{shard}.parquet"
        ),
    resources:
        gpu=gpus("sampling"),
        machine=MACHINE,
    threads: cores("sampling")
    shell:
        stage(
            "answers --machine {resources.machine:q} --questions {input.questions:q}"
            " --traces {input.traces:q} --model {input.model:q} --out {output:q}",
            takes_gpus=True,
        )


rule verdicts:
    """Verify the answers of a shard."""
    input:
        questions=ancient(made("questions")),
        answers=ancient(same_shard("answers")),
    output:
        update("results/{experiment}/{draws}/verdicts/shard-{shard}.parquet"),
    log:
        "logs/{experiment}/{draws}/verdicts/shard-{shard}.log",
    params:
        settings=given(
            "verdicts", beside="results/{experiment}/{draws}/verdicts/shard-{shard}.parquet"
        ),
    threads: workflow.cores or 1
    shell:
        stage(
            "verdicts --questions {input.questions:q} --answers {input.answers:q}"
            " --workers {threads} --out {output:q}"
        )
