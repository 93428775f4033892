"""The search spaces that come with automl."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_spaces() -> Mapping[str, str]:
    """Return the spaces by name."""
    return {
        "amoebanet": "automl_spaces.amoebanet:AmoebaNet",
        "auto_net": "automl_spaces.auto_net:AutoNet",
        "blockqnn": "automl_spaces.blockqnn:BlockQNN",
        "cgp": "automl_spaces.cgp:CGP",
        "chain": "automl_spaces.chain:Chain",
        "choice_blocks": "automl_spaces.choice_blocks:ChoiceBlocks",
        "darts": "automl_spaces.darts:DARTS",
        "dpp_net": "automl_spaces.dpp_net:DPPNet",
        "enas_macro": "automl_spaces.enas_macro:ENASMacro",
        "enas_micro": "automl_spaces.enas_micro:ENASMicro",
        "genetic_cnn": "automl_spaces.genetic_cnn:GeneticCNN",
        "hierarchical": "automl_spaces.hierarchical:Hierarchical",
        "hyperparameters": "automl_spaces.hyperparameters:Hyperparameters",
        "metaqnn": "automl_spaces.metaqnn:MetaQNN",
        "mnasnet_search": "automl_spaces.mnasnet_search:MnasNetSearch",
        "module": "automl_spaces.module:Module",
        "morphisms": "automl_spaces.morphisms:Morphisms",
        "multi_branch": "automl_spaces.multi_branch:MultiBranch",
        "nao": "automl_spaces.nao:NAO",
        "nasbench101": "automl_spaces.nasbench101:NASBench101",
        "nasbench201": "automl_spaces.nasbench201:NASBench201",
        "nasbench_macro": "automl_spaces.nasbench_macro:NASBenchMacro",
        "nasbot": "automl_spaces.nasbot:NASBOT",
        "nasnet": "automl_spaces.nasnet:NASNet",
        "nasrl": "automl_spaces.nasrl:NASRL",
        "ofa": "automl_spaces.ofa:OFA",
        "pnas": "automl_spaces.pnas:PNAS",
        "run": "automl_spaces.run:Run",
        "smash": "automl_spaces.smash:SMASH",
        "spikenas": "automl_spaces.spikenas:Spikenas",
        "tree_cell": "automl_spaces.tree_cell:TreeCell",
        "unstructured": "automl_spaces.unstructured:Unstructured",
    }
