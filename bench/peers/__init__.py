"""The libraries we are measured against: installed apart, driven as child processes."""
