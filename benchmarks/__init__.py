"""The benchmarks: what the engine does in a second, beside what a user would otherwise run."""
