"""What an experiment will cost, before any of it has run."""


rule plan:
    """Plan tokens, device time, memory, disk and price of an experiment."""
    output:
        plan="results/{experiment}/plan.json",
        page="results/{experiment}/plan.html",
    log:
        "logs/{experiment}/plan.log",
    params:
        settings=lambda wildcards: CONFIG.experiments[wildcards.experiment].model_dump_json(),
        machine=CONFIG.machine.model_dump_json(exclude_defaults=True),
        jobs=workflow.cores or 1,
        evaluation="results/{experiment}/eval.json",
    shell:
        "exec python -m stages.plan --settings {params.settings:q} --machine {params.machine:q}"
        " --name {wildcards.experiment} --jobs {params.jobs} --eval {params.evaluation:q}"
        " --out {output.plan:q} --page {output.page:q} 2> >(tee {log:q} >&2)"
