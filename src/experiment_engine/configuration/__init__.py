"""The TOML folder to frozen values."""
