"""`python -m experiment_engine` is the command `experiment-engine`."""

from experiment_engine.entrypoints.cli.main import run

if __name__ == "__main__":
    run()
