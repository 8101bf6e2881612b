"""The files in deploy/, compose.yml and the Dockerfile: valid, and true of the program they start."""
