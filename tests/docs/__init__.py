"""What the documentation says, run: its commands, its examples, its tables."""
