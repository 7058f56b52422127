"""What the driver of each job does."""
