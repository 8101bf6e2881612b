"""Real servers for tests: each starts on the loopback, on a port of its own, and is stopped by its process id."""
