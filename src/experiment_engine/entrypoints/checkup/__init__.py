"""What `doctor` looks at: each function yields findings, and none changes anything."""
