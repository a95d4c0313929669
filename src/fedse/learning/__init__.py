"""The local update: LoRA fine-tuning of the agent on examples of its own success."""
