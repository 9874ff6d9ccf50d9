"""Translation by rule from English to Korean: analysis, lexicon, transfer, generation; transfer.yaml holds the rules."""
