"""Side-by-side benchmarks; each prints one JSON line last."""
