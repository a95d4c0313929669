"""``python -m fedse``."""

from fedse.cli.main import main

main()
