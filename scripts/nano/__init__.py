"""How the nano model is made; see docs/nano.md.  Not part of the package."""
