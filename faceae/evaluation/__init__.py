"""How good a model is: baselines, scores, means."""
