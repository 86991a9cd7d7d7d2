"""Which models and experiments are evaluated, compared and reported together."""

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


def each_round(artifact):
    """Input function: an artifact of every round that leads to a model that is evaluated."""

    def where(wildcards):
        settings = CONFIG.experiments[wildcards.experiment]
        count = settings.rounds if "final" in settings.evaluation.models else 0
        return [path(wildcards.experiment, artifact, r) for r in range(1, count + 1)]

    return where


def folders_of(kind):
    """Params function: the folders of a kind's shards, one a round."""

    def where(wildcards, input):
        if kind == "verdicts" and not CONFIG.experiments[wildcards.experiment].answers.m:
            return []
        return each_round(kind)(wildcards)

    return where


def named_models(wildcards, input):
    """Params function: `name=folder` for each model that was trained."""
    return [f"{Path(folder).name}={folder}" for folder in input.models]
