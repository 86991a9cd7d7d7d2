"""The error shown to users, and the derivation of random seeds."""
