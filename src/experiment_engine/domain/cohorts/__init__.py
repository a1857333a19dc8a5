"""Who may get what."""
