"""Acquire a domain's raw files."""

import checkout

checkout.stage("acquire")
