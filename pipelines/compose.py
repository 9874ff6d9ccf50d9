"""Compose conf/ into params.yaml, cells.json and code.json."""

import checkout

checkout.command("compose")
