"""What every step shares when it runs: arguments, errors, progress, provenance, devices."""
