"""WhatsApp through Meta's Cloud API: its JSON to and from our values."""
