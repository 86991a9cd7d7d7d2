"""Importance weights, their estimators and diagnostics."""
