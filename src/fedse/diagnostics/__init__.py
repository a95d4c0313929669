"""What happened in a run's rounds, computed from its folder alone: drift, conflict, experience, traffic."""
