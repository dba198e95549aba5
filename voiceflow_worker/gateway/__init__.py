"""The gateway to 8x8, over HTTP. Only this package sees HTTP answers and errors; it turns them into verdicts."""
