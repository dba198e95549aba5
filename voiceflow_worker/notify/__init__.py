"""Outcomes told to your own system: signed by Standard Webhooks, sent over HTTP, and verified where they arrive."""
