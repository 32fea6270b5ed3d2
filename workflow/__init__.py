"""Offline composition behind the command line."""
