"""Trains the network that faceae fills scratches and small holes with, on pictures that it draws itself."""
