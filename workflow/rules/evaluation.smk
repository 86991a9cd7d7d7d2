"""Evaluation of every model, and the figures of an experiment or of several."""

SEVERAL = r"({one})(\+({one}))+".format(one="|".join(map(re.escape, CONFIG.experiments)))


def evaluated(experiment):
    """Names of the models that an experiment evaluates, in the order of training."""
    settings = CONFIG.experiments[experiment]
    later = [f"final-{r}" for r in range(2, settings.rounds + 1)]
    chosen = [m for m in ("base", "initial", "final") if m in settings.evaluation.models]
    return chosen + (later if "final" in chosen else [])


def evaluated_model(wildcards):
    """Input function: the model that a job evaluates."""
    kind = wildcards.model.partition("-")[0]
    return path(wildcards.experiment, kind, round_of(wildcards))


def evaluation_settings(wildcards):
    """Params function: the settings of an evaluation."""
    return given(f"eval-{wildcards.model.partition('-')[0]}")(wildcards)


def evaluations(names):
    """The index of each evaluated model's samples, by `experiment/model`; none twice."""
    found = {}
    for name in names:
        for model in evaluated(name):
            kind, _, number = model.partition("-")
            home = experiments.home(CONFIG, name, f"eval-{kind}", int(number or 1))
            found.setdefault(f"results/{home}/eval/{model}/benchmarks.json", f"{name}/{model}")
    return {model: file for file, model in found.items()}


def evaluation_files(wildcards):
    """Input function: the samples of every model of the experiments that are compared."""
    return list(evaluations(compared(wildcards)).values())


def compared(wildcards):
    """Names of the experiments of a job."""
    return wildcards.get("experiments", wildcards.get("experiment", "")).split("+")


def evaluation_folders(wildcards):
    """Params function: `model=folder` for each evaluated model."""
    several = "experiments" in wildcards.keys()
    return [
        f"{model if several else model.split('/')[1]}={Path(file).parent}"
        for model, file in evaluations(compared(wildcards)).items()
    ]


def draws_of(wildcards):
    """Input function: every table of an experiment's rounds, for its ledger."""
    name = wildcards.experiment
    settings = CONFIG.experiments[name]
    shards = [f"shard-{shard:04d}.parquet" for shard in range(settings.traces.shards)]
    from_prior = settings.traces.proposal == "prior"
    drawn = ["traces", "scores/prior"] + (["answers", "verdicts"] if settings.answers.m else [])
    found = []
    for round_ in range(1, settings.rounds + 1) if "final" in settings.evaluation.models else []:
        kinds = drawn if from_prior else [*drawn, "scores/posterior"]
        own = [f"{kind}/{shard}" for kind in kinds for shard in shards]
        tables = [*own, "weights.parquet", "rows.parquet"]
        if round_ > 1 and not from_prior:
            rollouts = [f"{kind}/{shard}" for kind in drawn for shard in shards]
            rollouts += ["weights.parquet", "rows.parquet"]
            tables = [f"rollouts/{table}" for table in rollouts] + tables
        found += [path(name, table, round_) for table in tables]
    return found


def trained_models(wildcards):
    """Input function: every model that an experiment trains."""
    name = wildcards.experiment
    settings = CONFIG.experiments[name]
    if "final" not in settings.evaluation.models:
        return [path(name, "initial")] if "initial" in settings.evaluation.models else []
    kinds = ["final"] if settings.traces.proposal == "prior" else ["posterior", "final"]
    later = [path(name, kind, r) for r in range(1, settings.rounds + 1) for kind in kinds]
    return [path(name, "initial"), *later]


def artifacts(wildcards, input):
    """Params function: what the ledger accounts for; shards as their folder."""
    files = [*input.models, *input.draws]
    whole = [str(Path(f).parent) if Path(f).name.startswith("shard-") else f for f in files]
    return list(dict.fromkeys(whole))


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
    threads: cores("sampling")
    shell:
        stage(
            "evaluate --machine {MACHINE:q} --model {input.model:q} --held-out {input.held_out:q}"
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
    output:
        "results/{experiment}/eval.json",
    log:
        "logs/{experiment}/summary.log",
    params:
        folders=evaluation_folders,
        artifacts=artifacts,
    shell:
        "exec {PYTHON:q} -m stages.summary --name {wildcards.experiment} --eval {params.folders:q}"
        " --questions {input.questions:q} --artifacts {params.artifacts:q} --out {output:q}"
        " 2> >(tee {log:q} >&2)"


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
        "exec {PYTHON:q} -m stages.summary --name {wildcards.experiments:q}"
        " --eval {params.folders:q} --questions {input.questions:q} --out {output:q}"
        " 2> >(tee {log:q} >&2)"
