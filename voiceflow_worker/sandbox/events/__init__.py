"""The account of the sandbox and its events: numbers, voices, webhooks, answers, and deliveries."""
