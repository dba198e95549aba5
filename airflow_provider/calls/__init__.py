"""The phone calls of tasks: their keys, their wait, the holds of stopped tasks, and failures."""
