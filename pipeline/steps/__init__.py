"""The steps of the line; each touches one outside world and knows nothing of Luigi or of settings."""
