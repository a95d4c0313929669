"""Base models, and LoRA adapters on them."""
