"""The error that users see, and the one derivation of random seeds."""
