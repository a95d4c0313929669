"""AgentGym's HTTP protocol (arXiv 2406.04151) from both ends: our environments served, its servers played on."""
