"""The exchange, which dials calls, connects them, and carries out their actions."""
