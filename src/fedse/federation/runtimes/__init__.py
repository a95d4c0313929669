"""Ways to run a federation; all of them use the same clients and the same server."""
