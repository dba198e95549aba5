"""The exchange: calls dialled, put through, and carried out action by action."""
