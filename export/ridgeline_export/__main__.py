"""`python -m ridgeline_export MODEL OUT`."""

from ridgeline_export.cli import main

main()
