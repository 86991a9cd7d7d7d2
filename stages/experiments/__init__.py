"""Settings, experiments and studies of config.yaml, and what each artifact depends on."""
