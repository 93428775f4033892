"""The search strategies that come with automl."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_strategies() -> Mapping[str, str]:
    """Return the strategies by name."""
    return {
        "cmaes": "automl_strategies.cmaes:CMAES",
        "darts": "automl_strategies.darts:DARTS",
        "ddpg": "automl_strategies.ddpg:DDPG",
        "evolution": "automl_strategies.evolution:Evolution",
        "gdas": "automl_strategies.gdas:GDAS",
        "gp": "automl_strategies.gp:GP",
        "grid": "automl_strategies.grid:Grid",
        "nsga2": "automl_strategies.nsga2:NSGA2",
        "pc_darts": "automl_strategies.pc_darts:PCDARTS",
        "ppo": "automl_strategies.ppo:PPO",
        "q_learning": "automl_strategies.q_learning:QLearning",
        "random": "automl_strategies.random:Random",
        "reinforce": "automl_strategies.reinforce:Reinforce",
        "snas": "automl_strategies.snas:SNAS",
        "tpe": "automl_strategies.tpe:TPE",
    }
