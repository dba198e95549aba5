"""The connection to Redis servers: URLs, lines, durability, scripts, the server's clock."""
