"""Engines: where tasks run. One small protocol (`base`), a module or folder for each, made on first use."""
