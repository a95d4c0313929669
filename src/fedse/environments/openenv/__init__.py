"""OpenEnv's protocol (github.com/huggingface/OpenEnv) from both ends: our environments served, its servers played on."""
