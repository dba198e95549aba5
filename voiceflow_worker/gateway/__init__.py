"""8x8 over httpx: requests out, verdicts back; nothing outside this room knows HTTP errors."""
