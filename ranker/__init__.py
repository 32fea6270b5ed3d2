"""Features to per-task predictions."""
