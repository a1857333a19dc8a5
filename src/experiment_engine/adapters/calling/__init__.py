"""How any provider is called over HTTP, and what HTTP itself proves; no provider's words."""
