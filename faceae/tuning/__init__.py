"""Ray Tune: trials, searcher and scheduler, live view, result."""
