"""RudderStack: its webhook destination."""
