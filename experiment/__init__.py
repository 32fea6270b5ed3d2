"""Buckets, logs and readouts."""
