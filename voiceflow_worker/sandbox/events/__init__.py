"""Events of the sandbox: the account that they belong to, and their delivery."""
