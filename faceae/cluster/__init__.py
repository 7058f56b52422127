"""Ray Train: where workers run, what they are told, what each of them does."""
