"""Registered subscriptions: kept in JetStream's key-value buckets, delivered by the workers."""
