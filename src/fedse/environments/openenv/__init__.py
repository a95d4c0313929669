"""OpenEnv's protocol (github.com/huggingface/OpenEnv) from both ends: environments served, and servers played on."""
