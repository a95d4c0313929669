"""A federation over the network: the two configuration files, keys and certificates, and each side's folder."""
