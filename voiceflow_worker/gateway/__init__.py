"""The gateway to 8x8 over httpx. It turns HTTP answers and errors into verdicts, and no other room handles them."""
