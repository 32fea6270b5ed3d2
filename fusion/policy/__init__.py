"""Batch-RL fusion: transitions, exploration with true densities, networks in plain torch, and the strategy that serving loads."""
