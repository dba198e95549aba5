"""Calls of the sandbox: their course, events and summaries, and the ledger of all calls."""
