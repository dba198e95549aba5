"""Orders to the sandbox: how calls end, how events arrive, which faults it shows."""
