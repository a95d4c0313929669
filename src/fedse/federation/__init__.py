"""Clients that keep their experience, a server that sees adapters only, and the round loop between them."""
