"""What goes out, when, and what if it fails."""
