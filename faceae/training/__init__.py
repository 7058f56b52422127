"""Training: one epoch, losses, schedule, checkpoints. Uses torch, not Ray."""
