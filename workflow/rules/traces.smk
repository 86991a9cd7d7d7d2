"""Traces, their scores under both models, their answers and verdicts, shard by shard."""


rule traces:
    """Sample K traces of every question of a shard."""
    input:
        unpack(inputs("traces")),
    output:
        update("results/{experiment}/{draws}/traces/shard-{shard}.parquet"),
    log:
        "logs/{experiment}/{draws}/traces/shard-{shard}.log",
    threads: cores("sampling")
    resources:
        gpu=gpus("sampling"),
        machine=MACHINE,
    params:
        inputs=arguments,
        settings=settings("traces"),
        identity=identity("traces"),
        shards=lambda wildcards: CONFIG.experiments[wildcards.experiment].traces.shards,
    shell:
        step(
            "traces --machine {resources.machine:q} {params.inputs}"
            " --shard {wildcards.shard}/{params.shards} --out {output:q}",
            takes_gpus=True,
        )


rule scores:
    """Score a shard's traces under the prior or the posterior."""
    input:
        unpack(inputs("scores")),
    output:
        update("results/{experiment}/{draws}/scores/{role}/shard-{shard}.parquet"),
    log:
        "logs/{experiment}/{draws}/scores/{role}/shard-{shard}.log",
    resources:
        gpu=gpus("scoring"),
        machine=MACHINE,
    params:
        inputs=arguments,
        settings=settings("scores"),
        identity=identity("scores"),
    shell:
        step(
            "scores --machine {resources.machine:q} {params.inputs} --role {wildcards.role}"
            " --out {output:q}",
            takes_gpus=True,
        )


rule answers:
    """Sample M answers after every closed trace of a shard, from the prior."""
    input:
        unpack(inputs("answers")),
    output:
        update("results/{experiment}/{draws}/answers/shard-{shard}.parquet"),
    log:
        "logs/{experiment}/{draws}/answers/shard-{shard}.log",
    threads: cores("sampling")
    resources:
        gpu=gpus("sampling"),
        machine=MACHINE,
    params:
        inputs=arguments,
        settings=settings("answers"),
        identity=identity("answers"),
    shell:
        step(
            "answers --machine {resources.machine:q} {params.inputs} --out {output:q}",
            takes_gpus=True,
        )


rule verdicts:
    """Verify the answers of a shard."""
    input:
        unpack(inputs("verdicts")),
    output:
        update("results/{experiment}/{draws}/verdicts/shard-{shard}.parquet"),
    log:
        "logs/{experiment}/{draws}/verdicts/shard-{shard}.log",
    threads: workflow._cores or 1
    params:
        inputs=arguments,
        settings=settings("verdicts"),
        identity=identity("verdicts"),
    shell:
        step("verdicts {params.inputs} --workers {threads} --out {output:q}")
