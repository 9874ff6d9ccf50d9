"""Translation by rule: analysis, lexicon, transfer, generation; the rules are in transfer.yaml."""
