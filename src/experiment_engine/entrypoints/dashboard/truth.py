"""What is true in a demo's made-up world, and how far the engine is from it."""

from experiment_engine.entrypoints.dashboard.pages import Asked, NoSuchPage, Page, View


def view(asked: Asked) -> View:
    """Return the truth of every cohort, which only a demo knows."""
    if asked.running.demo is None:
        raise NoSuchPage("Only a demo knows the truth: `experiment-engine demo`.")
    return {"truth": asked.running.demo.truth()}


PAGE = Page("/demo/truth", "/demo/truth.json", "Truth", "truth.html", view)
