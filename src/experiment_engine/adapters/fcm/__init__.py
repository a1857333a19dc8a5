"""Push through Firebase Cloud Messaging: its JSON to and from our values."""
