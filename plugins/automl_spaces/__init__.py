"""The search spaces that come with automl."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_spaces() -> Mapping[str, str]:
    """Return the spaces by name."""
    return {
        "auto_net": "automl_spaces.auto_net:AutoNet",
        "chain": "automl_spaces.chain:Chain",
        "darts": "automl_spaces.darts:DARTS",
        "enas_macro": "automl_spaces.enas_macro:ENASMacro",
        "genetic_cnn": "automl_spaces.genetic_cnn:GeneticCNN",
        "metaqnn": "automl_spaces.metaqnn:MetaQNN",
        "module": "automl_spaces.module:Module",
        "multi_branch": "automl_spaces.multi_branch:MultiBranch",
        "nasbench201": "automl_spaces.nasbench201:NASBench201",
        "nasbot": "automl_spaces.nasbot:NASBOT",
        "nasnet": "automl_spaces.nasnet:NASNet",
        "nasrl": "automl_spaces.nasrl:NASRL",
        "run": "automl_spaces.run:Run",
        "smash": "automl_spaces.smash:SMASH",
        "spikenas": "automl_spaces.spikenas:Spikenas",
        "unstructured": "automl_spaces.unstructured:Unstructured",
    }
