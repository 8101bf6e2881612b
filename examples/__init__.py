"""Programs that show Haulage at work; each runs as ``python -m examples.NAME``."""
