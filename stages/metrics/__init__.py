"""Scores of evaluations: pass@k, intervals, pairing, contamination, the schema of eval.json."""
