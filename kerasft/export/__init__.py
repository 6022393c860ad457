"""Export: artefacts, each published only with a proof."""
