"""`python -m ridgeline_export.packed MODEL OUT`."""

from ridgeline_export.packed.command import main

main()
