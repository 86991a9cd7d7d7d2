"""Language models by number: token ids in, log-probs and gradients out.

Knows no question, no prompt, and no file beyond checkpoints.
"""
