"""Messages as signed webhooks, to whoever wants to send them by other means."""
