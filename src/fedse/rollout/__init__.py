"""Playing episodes: by a model, many at a time, or by a scripted policy, one at a time."""
