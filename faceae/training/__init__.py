"""Training itself: one epoch, losses, schedule, checkpoints. Knows torch, not Ray."""
