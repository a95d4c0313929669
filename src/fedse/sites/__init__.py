"""A site, and all that is private to it."""
