"""Search: judge formulas on logged impressions, look for better parameters, and say honestly how much better they are."""
