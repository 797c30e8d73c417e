"""`python -m node` is `radloop`."""

from node.cli import main

main()
