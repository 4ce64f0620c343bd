"""From the log to NATS JetStream: publisher, subscriptions, services."""
