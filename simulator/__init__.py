"""Sessions of simulated users."""
