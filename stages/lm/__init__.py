"""Language models on token ids: packing, attention, log-probs, loss, trainer.

Nothing here knows questions, prompts, or files other than checkpoints.
"""
