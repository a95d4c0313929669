"""The local update: LoRA fine-tuning of the agent on its own successful trajectories."""
