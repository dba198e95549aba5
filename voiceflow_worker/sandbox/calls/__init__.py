"""Calls of the sandbox: what each one is, says and reports, and the ledger of all that rang."""
