"""How the nano model is made; see README.md.  Not part of the package."""
