"""Made-up worlds: the demo's city, and the synthetic world of `simulate`."""
