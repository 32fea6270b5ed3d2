"""The presets: YAML files of settings, and the stored model of a log (JSON)."""
