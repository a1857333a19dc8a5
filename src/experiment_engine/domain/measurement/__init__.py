"""What happened, and how sure we are."""
