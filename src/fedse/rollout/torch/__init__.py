"""The player that decodes with torch: a merged adapter, a key-value cache per slot, packed weights on a CPU."""
