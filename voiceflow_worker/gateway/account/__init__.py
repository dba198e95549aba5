"""The account API of 8x8: voices, numbers, webhooks, recordings."""
