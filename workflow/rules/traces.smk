"""Traces, their scores under both models, their answers, and the verdicts: shard by shard."""


rule traces:
    """Sample K traces of every question of a shard."""
    input:
        questions=keep("traces", made("questions")),
        model=keep("traces", proposal),
    output:
        update(KEPT["traces"]),
    log:
        "logs/{experiment}/{draws}/traces/shard-{shard}.log",
    params:
        settings=given("traces"),
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
        questions=keep("scores", made("questions")),
        traces=keep("scores", same_shard("traces")),
        model=keep("scores", scored_model),
    output:
        update(KEPT["scores"]),
    log:
        "logs/{experiment}/{draws}/scores/{role}/shard-{shard}.log",
    params:
        settings=given("scores"),
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
        questions=keep("answers", made("questions")),
        traces=keep("answers", same_shard("traces")),
        model=keep("answers", prior),
    output:
        update(KEPT["answers"]),
    log:
        "logs/{experiment}/{draws}/answers/shard-{shard}.log",
    params:
        settings=given("answers"),
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
        questions=keep("verdicts", made("questions")),
        answers=keep("verdicts", same_shard("answers")),
    output:
        update(KEPT["verdicts"]),
    log:
        "logs/{experiment}/{draws}/verdicts/shard-{shard}.log",
    params:
        settings=given("verdicts"),
    threads: workflow.cores or 1
    shell:
        stage(
            "verdicts --questions {input.questions:q} --answers {input.answers:q}"
            " --workers {threads} --out {output:q}"
        )
