"""Own backends: events by Standard Webhooks, or with a plain token."""
