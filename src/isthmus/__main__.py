"""``python -m isthmus``: the command line."""

from isthmus.cli.main import main

main()
