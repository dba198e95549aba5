"""The connection to Redis servers: URLs, clients, durability, keys, scripts, the server's clock."""
