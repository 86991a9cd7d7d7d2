"""What an experiment will cost, before anything runs."""


rule plan:
    """Estimate the tokens, device time, memory, disk space and price of an experiment."""
    output:
        plan="results/{experiment}/plan.json",
        page="results/{experiment}/plan.html",
    log:
        "logs/{experiment}/plan.log",
    params:
        settings=lambda wildcards: CONFIG.experiments[wildcards.experiment].model_dump_json(),
        machine=MACHINE,
        jobs=workflow.cores or 1,
        evaluation="results/{experiment}/eval.json",
    shell:
        step(
            "plan --machine {params.machine:q} --name {wildcards.experiment}"
            " --jobs {params.jobs} --eval {params.evaluation:q}"
            " --out {output.plan:q} --page {output.page:q}"
        )
