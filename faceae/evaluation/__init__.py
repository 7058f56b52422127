"""Measuring a model: baselines, scores, means."""
