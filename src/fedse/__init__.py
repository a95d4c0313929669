"""Federated self-evolution of LLM agents."""
