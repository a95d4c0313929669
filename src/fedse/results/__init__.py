"""What readers of finished runs share: reading, pairing and putting together."""
