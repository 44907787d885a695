"""`python -m ftkit`, the same as the `ftkit` command."""

from ftkit.cli.main import main

main()
