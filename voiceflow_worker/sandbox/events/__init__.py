"""The account of the sandbox (numbers, voices and webhooks), and the delivery of its events."""
