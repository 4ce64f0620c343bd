"""Who may see what: the keys, accounts and tokens with which nats-server itself enforces it."""
