"""A plugin for tests: a space of tiny networks, and an evaluator that does what a test tells it to."""

from automl import hookimpl


@hookimpl
def automl_config_path():
    return "pkg://automl_toys.conf"


@hookimpl
def automl_spaces():
    return {"toy": "automl_toys.spaces:Toy"}


@hookimpl
def automl_evaluators():
    return {"toy": "automl_toys.evaluators:Toy"}


@hookimpl
def automl_strategies():
    return {"changed": "automl_toys.strategies:Changed"}


@hookimpl
def automl_trackers():
    return {name: f"automl_toys.trackers:{name.title()}" for name in ("counts", "again")}
