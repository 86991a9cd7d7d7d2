"""What an experiment will cost before it runs: tokens, FLOPs, device time, memory, disk, price."""
