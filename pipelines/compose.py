"""Compose conf/ into params.yaml, cells.yaml and code.yaml."""

import checkout

checkout.command("compose")
