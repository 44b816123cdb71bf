"""`python -m stablestudio`."""

from stablestudio.cli import main

main()
