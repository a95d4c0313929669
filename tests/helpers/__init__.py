"""What several test modules share: small runs, made folders, stand-ins."""
