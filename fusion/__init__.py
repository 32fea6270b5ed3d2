"""Per-task predictions to one final score."""
