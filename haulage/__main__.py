"""``python -m haulage`` is the command ``haulage``."""

from haulage.cli import main

main(prog_name="haulage")
