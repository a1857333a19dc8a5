"""Sending without a provider."""
