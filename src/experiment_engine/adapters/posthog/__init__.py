"""PostHog: its webhook destination."""
